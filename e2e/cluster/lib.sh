# Sourced by up, down and load: where things are, and processes that outlive the shell which started them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=$(realpath -m "${1:-.cluster}")
bin=$run/bin
bridge=cni0
bridge_ip=10.88.0.1
node=node-1
export KUBECONFIG=$run/kubeconfig PATH=$bin:$PATH

# Every process of the cluster, with the TCP ports it listens on; in the order that `down` stops them, containerd last.
order=(kubelet kube-proxy coredns scheduler controller-manager apiserver etcd)
declare -A ports=([etcd]="2379 2380" [apiserver]=6443 [controller-manager]=10257 [scheduler]=10259
  [kubelet]="10248 10250" [kube-proxy]="10249 10256")

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

ctr() { command ctr --address "$run/containerd.sock" --namespace k8s.io "$@"; }

# When a process started, in clock ticks since boot: with its id this names it for good, even if the id is used again.
born() { # PID
  local state
  state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 1
  [[ $state != Z* ]] && cut -d' ' -f20 <<<"$state"
}

alive() { # NAME
  local pid start
  read -r pid start 2>/dev/null <"$run/pid/$1" || return 1
  [[ -n $start && $(born "$pid") == "$start" ]]
}

start() { # NAME COMMAND...
  local name=$1; shift
  alive "$name" && return
  setsid "$@" >>"$run/log/$name.log" 2>&1 </dev/null &
  echo "$! $(born $!)" >"$run/pid/$name"
}

# TERM, then KILL after five seconds; never a process that `up` did not start.
stop() { # NAME
  local pid start
  if alive "$1"; then
    read -r pid start <"$run/pid/$1"
    kill "$pid"
    for _ in {1..50}; do alive "$1" || break; sleep 0.1; done
    if alive "$1"; then kill -9 "$pid"; sleep 0.2; fi
  fi
  rm -f "$run/pid/$1"
}

wait_until() { # SECONDS WHAT COMMAND...
  local limit=$1 what=$2 file; shift 2
  local end=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    for file in "$run"/pid/*; do
      alive "${file##*/}" || fail "${file##*/} ended while waiting for $what; its last words: $(tail -n 3 "$run/log/${file##*/}.log")"
    done
    ((SECONDS < end)) || fail "no $what after $limit s; see $run/log"
    sleep 0.2
  done
}
