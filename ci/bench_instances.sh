# shellcheck shell=bash
# Members, failover, backups and restores: the part of ci/bench about what an instance lives through. Sourced, not run.
# Uses of ci/bench: program, work, bin, server_user, promise, skip, milliseconds, ratio, median.

# sql HOST PASSWORD STATEMENT: as an application would ask, over TCP with TLS.
sql() {
  PGPASSWORD=$2 PGSSLMODE=require PGCONNECT_TIMEOUT=1 "$bin/psql" -h "$1" -U postgres -d a9s_apps_default_db -Atqc "$3"
}

# service_address INSTANCE, password INSTANCE: where and how the primary of an instance is reached.
service_address() { kubectl get service "$1-master" -o 'jsonpath={.spec.clusterIP}'; }
password() { kubectl get secret "postgres.credentials.$1" -o 'jsonpath={.data.password}' | base64 -d; }

# in_server INSTANCE COMMAND...: runs in the container of an instance's first member.
in_server() {
  local instance=$1
  shift
  kubectl exec "$instance-0" -c postgres -- "$@"
}

# primary_pids INSTANCE: the postmaster of the primary, as this machine numbers it.
primary_pid() {
  local pod uid file
  pod=$(kubectl get pods -l "a8s.a9s/dsi-name=$1,a8s.a9s/replication-role=master" -o 'jsonpath={.items[0].metadata.name}')
  uid=$(kubectl get pod "$pod" -o 'jsonpath={.metadata.uid}')
  for file in /proc/[0-9]*/environ; do
    tr '\0' '\n' 2>/dev/null <"$file" | grep -qx "A9S_POD_UID=$uid" || continue
    file=${file%/environ}
    case $(tr '\0' ' ' 2>/dev/null <"$file/cmdline") in
      *bin/postgres\ -D*) say "${file#/proc/}" && return ;;
    esac
  done
  die "the primary of $1 was not found"
}

# failover_milliseconds INSTANCE ADDRESS PASSWORD: from the kill of the primary, its server and its agent, to the first
# acknowledged write. A server alone is started again by its agent.
failover_milliseconds() {
  local pid begin
  pid=$(primary_pid "$1")
  begin=${EPOCHREALTIME/./}
  kill -9 "$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status")" "$pid"
  until sql "$2" "$3" 'INSERT INTO ledger DEFAULT VALUES' >/dev/null 2>&1; do :; done
  awk -v a="$begin" -v b="${EPOCHREALTIME/./}" 'BEGIN { printf "%.0f", (b - a) / 1000 }'
}

measure_members() {
  local created address secret round times=()
  # Once: where thousands of files have just been removed, ext4 takes longer to make new ones than PostgreSQL to start.
  settle
  created=$(milliseconds "$program" create pg instance --name trio --replicas 3 --yes)
  promise "three members ready after create pg instance" "$created" '<=' 2000 ms
  address=$(service_address trio) secret=$(password trio)
  sql "$address" "$secret" 'CREATE TABLE ledger (id serial)'
  for round in 1 2 3 4 5; do
    times+=("$(failover_milliseconds trio "$address" "$secret")")
    # The next one is for an instance that is whole again.
    until [ "$(sql "$address" "$secret" "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")" = 2 ]; do
      sleep 0.1
    done
  done
  promise "failover, kill to the first acknowledged write, median" "$(median "${times[@]}")" '<=' 1000 ms \
    "of ${#times[@]}: ${times[*]}; psql itself takes $(milliseconds sql "$address" "$secret" 'SELECT 1') ms"
  "$program" delete pg instance --name trio --yes >/dev/null
}

# peak_of_agents ROLE: the most that an agent of this role has taken so far, in MiB. As with all memory here, pages of the
# program itself count by their share: all agents, and the cluster's process, have the same ones.
peak_of_agents() {
  local file
  for file in /proc/[0-9]*; do
    case $(tr '\0' ' ' 2>/dev/null <"$file/cmdline") in
      *"agent $1 ")
        cat "$file/status" "$file/smaps_rollup" | awk '
          /^VmHWM:/ { peak = $2 } /^RssFile:/ { shared = $2 } /^Pss_File:/ { share = $2 }
          END { printf "%.1f\n", (peak - shared + share) / 1024 }'
        ;;
    esac
  done | sort -n | tail -n 1
}

# as_server_user COMMAND...: as the user who runs PostgreSQL.
as_server_user() { "${server_user[@]}" "$@"; }

# settle: the disk is at rest: what the last round wrote and removed is written, removed and discarded.
settle() { sync && sleep 6; }

# synced_copy FROM TO: what a restore is measured by.
synced_copy() {
  as_server_user cp -r "$1" "$2"
  sync -f "$2"
}

# copy_of_content NAME: a plain server with the content that an instance has, for the tools of others: from its port on
# the machine, by pg_basebackup. Sets plain_data and plain_port.
plain_data='' plain_port=''
copy_of_content() {
  local address secret
  address=$(service_address "$1") secret=$(password "$1")
  plain_data=$work/plain/of-$1 plain_port=64$((RANDOM % 90 + 10))
  PGPASSWORD=$secret PGSSLMODE=require as_server_user "$bin/pg_basebackup" -h "$address" -U postgres -D "$plain_data" -X fetch --checkpoint=fast
  as_server_user sh -c "cat >'$plain_data/postgresql.conf'" <<END
listen_addresses = ''
port = $plain_port
unix_socket_directories = '$work/plain'
shared_buffers = 128MB
END
  as_server_user sh -c "echo 'local all all trust
local replication all trust' >'$plain_data/pg_hba.conf'"
  as_server_user "$bin/pg_ctl" -D "$plain_data" -w -l "$plain_data/log" start >/dev/null
}

plain_basebackup() {
  rm -rf "$work/plain/base"
  as_server_user "$bin/pg_basebackup" -h "$work/plain" -p "$plain_port" -U postgres -D "$work/plain/base" -X fetch --checkpoint=fast
}

# pgBackRest's own configuration, with a cipher, a comparable level and two processes. The plain server archives its WAL with
# it, without which what it backs up could not be started.
write_pgbackrest() {
  mkdir -p "$work/pgbackrest" && chmod 777 "$work/pgbackrest"
  cat >"$work/pgbackrest/conf" <<END
[global]
repo1-path=$work/pgbackrest/repo
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=0123456789abcdef0123456789abcdef
compress-type=zst
compress-level=1
process-max=2
log-path=$work/pgbackrest
lock-path=$work/pgbackrest/lock
spool-path=$work/pgbackrest/spool
start-fast=y
[bench]
pg1-path=$plain_data
pg1-port=$plain_port
pg1-socket-path=$work/plain
pg1-user=postgres
END
  chmod 644 "$work/pgbackrest/conf"
  backrest stanza-create >/dev/null
  as_server_user sh -c "cat >>'$plain_data/postgresql.conf'" <<END
archive_mode = on
archive_command = 'pgbackrest --config=$work/pgbackrest/conf --config-include-path=$work/pgbackrest --stanza=bench archive-push %p'
END
  as_server_user "$bin/pg_ctl" -D "$plain_data" -w -l "$plain_data/log" restart >/dev/null
}
backrest() { as_server_user pgbackrest --config="$work/pgbackrest/conf" --config-include-path="$work/pgbackrest" --stanza=bench "$@"; }
backrest_backup() { backrest --no-archive-check --type=full backup; }
# As ours: until a server answers with what was restored.
backrest_restore() {
  as_server_user mkdir -p -m 700 "$work/plain/restored"
  backrest --pg1-path="$work/plain/restored" --type=immediate --target-action=promote restore
  sync -f "$work/plain/restored"
  as_server_user "$bin/pg_ctl" -D "$work/plain/restored" -w -o "-p $((plain_port + 1)) -c archive_mode=off" start
}

# measure_content NAME WHAT SHARE: backup and restore of an instance against the tools that everybody has. SHARE of the
# throughput of a plain pg_basebackup is promised.
measure_content() {
  local name=$1 what=$2 share=$3 ours plain copied restored theirs
  copy_of_content "$name"
  plain=$(for round in 1 2 3; do milliseconds plain_basebackup && echo; done | sort -n | head -n 1)
  ours=$(for round in 1 2 3; do
    milliseconds "$program" create pg backup --name "$name-$round" -i "$name" --yes && echo
  done | sort -n | head -n 1)
  promise "backup of $what, throughput by a plain pg_basebackup" "$(ratio "$plain" "$ours")" '>=' "$share" '' \
    "$ours ms, pg_basebackup $plain ms, $(du -sm "$work/plain/base" | cut -f 1) MiB"
  promise "memory of the agent that makes backups, peak" "$(peak_of_agents backup)" '<=' 64 MiB
  copied=$(for round in 1 2 3; do
    settle
    milliseconds synced_copy "$work/plain/base" "$work/plain/copy" && echo
    rm -rf "$work/plain/copy"
  done | sort -n | head -n 1)
  restored=$(for round in 1 2 3; do
    settle
    milliseconds "$program" create pg restore --name "$name-$round" -b "$name-$round" -i "$name" --yes && echo
  done | sort -n | head -n 1)
  promise "restore of $what, by a synced copy of the same bytes" "$(ratio "$restored" "$copied")" '<=' 2 '' \
    "$restored ms, copy $copied ms"
  promise "memory of the agent that restores, peak" "$(peak_of_agents postgres)" '<=' 64 MiB
  if have pgbackrest; then
    write_pgbackrest
    theirs=$(for round in 1 2 3; do milliseconds backrest_backup && echo; done | sort -n | head -n 1)
    promise "backup of $what, by pgBackRest" "$(ratio "$ours" "$theirs")" '<=' 1 '' "$ours ms, theirs $theirs ms"
    theirs=$(for round in 1 2 3; do
      rm -rf "$work/plain/restored"
      settle
      milliseconds backrest_restore && echo
      as_server_user "$bin/pg_ctl" -D "$work/plain/restored" -m immediate stop >/dev/null
    done | sort -n | head -n 1)
    promise "restore of $what, by pgBackRest" "$(ratio "$restored" "$theirs")" '<=' 1 '' "$restored ms, theirs $theirs ms"
    rm -rf "$work/pgbackrest"
  else
    skip 2 "backups beside pgBackRest (not installed)"
  fi
  as_server_user "$bin/pg_ctl" -D "$plain_data" -m immediate stop >/dev/null
  rm -rf "$plain_data" "$work/plain/base" "$work/plain/restored"
}

# measure_backups: 1 GiB of pgbench, then bytes that nothing makes smaller.
measure_backups() {
  "$program" create pg instance --name bank --volume-size 10Gi --limits-memory 512Mi --yes >/dev/null
  in_server bank pgbench -i -q -s 70 -U postgres a9s_apps_default_db >/dev/null 2>&1
  measure_content bank "1 GiB of pgbench" 0.9
  "$program" delete pg instance --name bank --yes >/dev/null
  "$program" create pg instance --name noise --volume-size 10Gi --limits-memory 512Mi --yes >/dev/null
  head -c 536870912 /dev/urandom | kubectl exec -i noise-0 -c postgres -- sh -c 'cat >/tmp/noise'
  in_server noise psql -qd a9s_apps_default_db -c "SELECT lo_import('/tmp/noise')" >/dev/null
  in_server noise rm /tmp/noise
  measure_content noise "incompressible bytes" 0.5
  "$program" delete pg instance --name noise --yes >/dev/null
}
