# Prints the users of the queue server, an ACL file: what each program may do and nothing else. Runs in any POSIX shell.
#
# Passwords come from the addresses that the programs themselves are given (redis://USER:PASSWORD@HOST...), so that
# there is one place for each; they are letters, digits, dash and underscore. A script runs with the rights of who calls
# it: a role's commands are its own and those of its scripts (executor/streams/lua). A server before 7.2 knows no
# `client|setinfo`: set SETINFO to nothing for it.
#
# With REPLICA_PASSWORD and SENTINEL_PASSWORD there are users for replicas (masteruser) and sentinels (sentinel auth-user).
#
# TENANTS, `NAME=PASSWORD NAME=PASSWORD ...`, gives each a user `tenant-NAME`: its own requests, results, replies and output.
# `caller` is the tenant `default`, and no pattern keeps it from the others' results: for strangers give every tenant a name.
# Neither can take an evaluation back: the script of a cancel writes results, so who may run it may forge them;
# `admin` may, and looks after the dead letters. They send no scripts either, for one that never ends stops the server:
# dispatchers load the one that enqueues, and without it requests are appended plainly. Locks are the server's own:
# `%W~` write only, `%R~` read only.
set -eu

password() { # URL
  rest=${1#*://*:}
  echo "${rest%%@*}"
}

setinfo=${SETINFO-+client|setinfo}
connect="+auth +hello +ping +select +client|setname $setinfo +client|id +quit"
terminal='+time +type +zrem +exists +hset +hdel +hmget +hget +hgetall +pexpire +xadd +xack +xpending'
serve="$connect +info +evalsha +eval"

# Lane work: claim, renew, commit, emit, hand back, leave. Only lanes differ.
work="$serve $terminal +hincrby +set +del +xclaim +xreadgroup +xgroup|create +xgroup|delconsumer"
work="$work +client|unblock +subscribe +unsubscribe +rpush +ltrim +zpopmin +zadd +zscore +zrange +zlexcount +pttl +xinfo|groups"
kept='~executor:eval:* ~executor:result:* ~executor:results ~executor:reply:* ~executor:output:* ~executor:dead'
registry='~executor:once:* ~executor:ages ~executor:turns:* ~executor:order:* ~executor:later:* ~executor:waiting:* ~executor:usage ~executor:quotas ~executors ~executor:heartbeat:* ~executor:starts'

# A caller: enqueue, follow, read.
call="-@all $connect +evalsha +client|unblock +xadd +xread +xrange +xlen +xinfo|groups +hget +hgetall +hmget +get +zlexcount %R~executor:usage %R~executor:quotas"

cat <<USERS
user default off
user dispatcher on >$(password "$DISPATCHER_URL") resetchannels -@all $serve $terminal +zadd +zscore +zrange +zlexcount +zpopmin +zcard +hkeys +script|load +xread +pttl +get +set +blpop +lpop +del +scan +xlen +xrange +xrevrange +xtrim +xinfo|groups +xinfo|stream +xinfo|consumers +xreadgroup +xautoclaim +xgroup|create +xgroup|setid +xgroup|delconsumer ~executor:requests ~executor:requests:* ~executor:lane:* $kept $registry
user worker on >$(password "$WORKER_URL") resetchannels &executor:control:* -@all $work ~executor:lane:warm.* $kept $registry
user agent on >$(password "$AGENT_URL") resetchannels &executor:control:* -@all $work ~executor:lane:job.* $kept $registry
user scaler on >$SCALER_PASSWORD resetchannels -@all +auth +hello +ping +info +select +client|setname $setinfo +quit +xinfo|groups +xlen +xpending %R~executor:lane:*
user caller on >$(password "$CALLER_URL") resetchannels $call ~executor:requests %R~executor:once:default:* %R~executor:reply:* %R~executor:output:* %R~executor:result:* %R~executor:results %R~executor:eval:default:*
user doctor on >$(password "$DOCTOR_URL") resetchannels -@all $connect +info +acl|whoami +config|get +scan +hgetall +hmget +exists +pttl +time +type +xlen +xrange +xpending +xinfo +zcard %R~executor:* %R~executors
user admin on >$(password "$ADMIN_URL") allchannels ~executor:* ~executors +@all -@admin +client|unblock +acl|whoami +acl|log +config|get -flushall -flushdb -swapdb
USERS
[ -z "${REPLICA_PASSWORD-}" ] || echo "user replica on >$REPLICA_PASSWORD resetchannels -@all +psync +replconf +ping"
[ -z "${SENTINEL_PASSWORD-}" ] || echo "user sentinel on >$SENTINEL_PASSWORD allchannels -@all +multi +exec +ping +info +role +publish +subscribe +replicaof +slaveof +failover +config|rewrite +client|setname +client|kill +script|kill"
for tenant in ${TENANTS-}; do
  name=${tenant%%=*}
  echo "user tenant-$name on >${tenant#*=} resetchannels $call ~executor:requests:$name %R~executor:once:$name:* %R~executor:reply:$name/* %R~executor:output:$name/* %R~executor:result:$name/* %R~executor:eval:$name:*"
done
