#!/bin/sh
# Starts the Sentinel of this pod. It keeps what it knows in /data/sentinel.conf: the primary, the replicas and the
# other Sentinels. A server counts as lost after 5 s.
set -eu
umask 077
if ! test -s /data/sentinel.conf; then
  cat >/data/sentinel.conf.new <<END
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $(hostname).sentinel
sentinel monitor mymaster redis-0.redis 6379 2
sentinel down-after-milliseconds mymaster 5000
sentinel failover-timeout mymaster 30000
sentinel parallel-syncs mymaster 2
END
  mv /data/sentinel.conf.new /data/sentinel.conf
fi
# The password may have changed since the last start.
password=$(cat /etc/stoker/redis_password)
sed -i '/^sentinel auth-pass /d' /data/sentinel.conf
echo "sentinel auth-pass mymaster \"$password\"" >>/data/sentinel.conf
exec redis-sentinel /data/sentinel.conf
