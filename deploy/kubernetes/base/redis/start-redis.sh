#!/bin/sh
# Starts the Redis server of this pod. The Sentinels write into /data/redis.conf which server it copies. The file
# stays with the volume, so a server that starts again does not copy one that is no longer the primary.
set -eu
umask 077
self=$(hostname)
if ! test -s /data/redis.conf; then
  test "$self" = redis-0 || role="replicaof redis-0.redis 6379"
  echo "${role:-# redis-0 is the first primary}" >/data/redis.conf.new
  mv /data/redis.conf.new /data/redis.conf
fi
password=$(cat /etc/stoker/redis_password)
# A name, because the address of a pod changes. Redis reads the lines from its input after the file.
exec redis-server /data/redis.conf - <<END
$(cat /etc/redis/redis.conf)
dir /data
replica-announce-ip $self.redis
requirepass "$password"
masterauth "$password"
END
