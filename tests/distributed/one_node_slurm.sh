#!/bin/bash
# A whole SLURM on this machine alone: one_node_slurm.sh start|stop FOLDER CONTROLLER_PORT NODE_PORT.
# It pretends to have 4 processors. Needs root, and the packages slurm-wlm and munge.
set -euo pipefail
action=$1 folder=$2
host=$(hostname -s)

if [[ $action == stop ]]; then
  for daemon in slurmctld slurmd munged; do
    [[ ! -f $folder/$daemon.pid ]] || kill "$(<"$folder/$daemon.pid")" || true
  done
  exit
fi

mkdir -p "$folder/state" "$folder/spool"
cat > "$folder/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$3
SlurmdPort=$4
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
(umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
slurmctld -f "$folder/slurm.conf"
slurmd -f "$folder/slurm.conf"
for _ in $(seq 100); do
  [[ $(SLURM_CONF=$folder/slurm.conf sinfo -h -o %t 2> /dev/null || true) == idle ]] && exit
  sleep 0.1
done
cat "$folder"/*.log >&2
exit 1
