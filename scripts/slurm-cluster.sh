#!/usr/bin/env bash
# A throw-away Slurm cluster of several nodes on the loopback of one machine, for tests.
#   slurm-cluster.sh up FOLDER [NODES] [PORT]    starts it; prints the path of its configuration
#   slurm-cluster.sh down FOLDER                 stops it, by process id
#   slurm-cluster.sh kill FOLDER WHAT            kills WHAT at once: n2 (a node's daemon and its jobs) or slurmctld
#   slurm-cluster.sh start FOLDER WHAT           starts WHAT again
# Needs the programs of Slurm and munge; no root, no systemd, no accounting.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

verb=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
host=$(hostname -s)
conf=$folder/slurm.conf

# The process of a pid file, if it is alive.
process() {
    local id
    id=$(cat "$1" 2>/dev/null) && kill -0 "$id" 2>/dev/null && echo "$id"
}

configure() {
    local nodes=$1 port=$2
    mkdir -p "$folder"/{munge,state,log,pid}
    chmod 755 "$folder" "$folder/pid"
    chmod 700 "$folder/munge"
    [[ -s $folder/munge/key ]] || (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
    chmod 711 "$folder/munge"
    {
        echo "ClusterName=loopback"
        echo "SlurmctldHost=$host(127.0.0.1)"
        echo "SlurmctldPort=$port"
        echo "SlurmUser=$(id -un)"
        echo "SlurmdUser=$(id -un)"
        echo "AuthType=auth/munge"
        echo "AuthInfo=socket=$folder/munge/socket"
        echo "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"
        echo "StateSaveLocation=$folder/state"
        echo "SlurmdSpoolDir=$folder/spool-%n"
        echo "SlurmctldPidFile=$folder/pid/slurmctld"
        echo "SlurmdPidFile=$folder/pid/%n"
        echo "SlurmctldLogFile=$folder/log/slurmctld"
        echo "SlurmdLogFile=$folder/log/%n"
        echo "ProctrackType=proctrack/linuxproc"
        echo "TaskPlugin=task/none"
        echo "JobAcctGatherType=jobacct_gather/none"
        echo "AccountingStorageType=accounting_storage/none"
        echo "SelectType=select/cons_tres"
        echo "SelectTypeParameters=CR_Core"
        echo "SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=10000"
        echo "SlurmdParameters=config_overrides"
        echo "ReturnToService=2"
        echo "SlurmdTimeout=10"
        echo "KillWait=5"
        echo "MinJobAge=3600"
        echo "CompleteWait=0"
        echo "MaxArraySize=1001"
        local number
        for ((number = 1; number <= nodes; number++)); do
            echo "NodeName=n$number NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + number)) CPUs=2 RealMemory=4000"
        done
        local all="n[1-$nodes]"
        [[ $nodes == 1 ]] && all=n1
        echo "PartitionName=main Nodes=$all Default=YES MaxTime=INFINITE State=UP"
    } >"$conf"
    echo "CgroupPlugin=cgroup/v1" >"$folder/cgroup.conf"
}

start() {
    if [[ $1 == slurmctld ]]; then
        slurmctld -f "$conf"
    else
        mkdir -p "$folder/spool-$1"
        slurmd -N "$1" -f "$conf"
    fi
}

# All processes below one, itself included.
family() {
    local child
    for child in $(pgrep -P "$1" || true); do family "$child"; done
    echo "$1"
}

case $verb in
up)
    nodes=${3:-2} port=${4:-17817}
    getent hosts "$host" | grep -qE '^(127\.|::1)' || {
        echo "$host must be an address of the loopback: add the line '127.0.0.1 $host' to /etc/hosts" >&2
        exit 1
    }
    configure "$nodes" "$port"
    export SLURM_CONF=$conf
    # The socket's path must be short, and its folder may not be writable by others.
    munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/pid/munged" \
        --log-file="$folder/log/munged" --seed-file="$folder/munge/seed" 2>>"$folder/log/munged.err" || {
        cat "$folder/log/munged.err" >&2
        exit 1
    }
    start slurmctld
    for ((number = 1; number <= nodes; number++)); do start "n$number"; done
    for ((wait = 0; wait < 600; wait++)); do
        idle=$(sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | sort -u | wc -l)
        if [[ $idle == "$nodes" ]]; then
            echo "$conf"
            exit 0
        fi
        sleep 0.2
    done
    echo "the cluster did not come up; its logs are in $folder/log" >&2
    tail -n 5 "$folder"/log/* >&2
    exit 1
    ;;
kill)
    id=$(process "$folder/pid/$3") || exit 0
    if [[ $3 == slurmctld ]]; then
        kill -KILL "$id"
    else
        # The jobs of a node are detached from its daemon; they are known by its log, which they hold open.
        victims=("$id")
        for step in $(pgrep -f 'slurmstepd: \[' || true); do
            if find "/proc/$step/fd" -lname "$folder/log/$3" 2>/dev/null | grep -q .; then
                mapfile -t -O "${#victims[@]}" victims < <(family "$step")
            fi
        done
        kill -KILL "${victims[@]}" 2>/dev/null || true
    fi
    ;;
start)
    export SLURM_CONF=$conf
    start "$3"
    ;;
down)
    export SLURM_CONF=$conf
    timeout 5 scancel --user="$(id -un)" 2>/dev/null || true
    for name in slurmctld $(cd "$folder/pid" && ls | grep '^n[0-9]' || true) munged; do
        id=$(process "$folder/pid/$name") || continue
        kill "$id"
        for ((wait = 0; wait < 50; wait++)); do
            process "$folder/pid/$name" >/dev/null || break
            sleep 0.1
        done
        id=$(process "$folder/pid/$name") && kill -KILL "$id" || true
    done
    ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
