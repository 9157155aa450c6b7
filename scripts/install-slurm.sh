#!/usr/bin/env bash
# Installs the programs of Slurm and munge that the tests of sweeps on a cluster start and stop, unless they are there.
# The tests' cluster lives on the loopback, so the host's name must be an address of it.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

if ! { command -v slurmctld && command -v slurmd && command -v sbatch && command -v munged; } >/dev/null; then
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || {
        echo "Slurm is not installed, and only root can install it by apt-get: slurmctld slurmd slurm-client munge" >&2
        exit 1
    }
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
fi
host=$(hostname -s)
if ! getent hosts "$host" | grep -qE '^(127\.|::1)'; then
    [[ -w /etc/hosts && ${CI:-} == true ]] || {
        echo "the cluster of the tests needs a line '127.0.0.1 $host' in /etc/hosts" >&2
        exit 1
    }
    echo "127.0.0.1 $host" >>/etc/hosts
fi
echo "Slurm is there: $(slurmctld -V)"
