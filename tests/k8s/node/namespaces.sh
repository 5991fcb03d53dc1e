#!/usr/bin/env bash
# The first process of a node, in namespaces of its own: makes the mounts and the network there, then becomes its arguments.
# What it makes goes with the namespaces. STATE is the folder that stands in for the machine's own.
set -euo pipefail

hostname node

# /sys shows the network that it was mounted in, so it is mounted anew, with the machine's cgroups on it. These are carried
# over a moving mount, because one left behind would show the kubelet a second set of them.
mkdir "$STATE/cgroups"
mount --rbind /sys/fs/cgroup "$STATE/cgroups"
mount -t sysfs sysfs /sys
mount --rbind "$STATE/cgroups" /sys/fs/cgroup
umount --recursive "$STATE/cgroups"

# The kubelet wants mounts that spread: among the node's own only, for unshare has cut them off from the machine's.
mount --make-rshared /

stand_in() { # FOLDER: every program keeps its own paths, and the machine keeps its files
    mkdir -p "$1" "$STATE/node$1"
    mount --bind "$STATE/node$1" "$1"
}
stand_in /run
stand_in /var/log
stand_in /var/lib/kubelet

# Where it is a link into /run, what it leads to has just been covered.
resolver=$(readlink --canonicalize-missing /etc/resolv.conf)
[ -e "$resolver" ] || install -D /dev/null "$resolver"
mount --bind "$STATE/configuration/resolv.conf" "$resolver"

# Settings of the whole machine. Where they read as the kubelet wants them, it does not write them.
set_aside() { # SETTING VALUE
    local file=$STATE/node/${1//\//-}
    echo "$2" > "$file"
    mount --bind "$file" "/proc/sys/$1"
}
set_aside vm/overcommit_memory 1
set_aside vm/panic_on_oom 0
set_aside kernel/panic 10
set_aside kernel/panic_on_oops 1
set_aside kernel/keys/root_maxkeys 1000000
set_aside kernel/keys/root_maxbytes 25000000

# A bridge without a port has the node's address, and a route for all else: a packet to a Service must find a route before
# it is sent on to a pod. Nothing leaves.
ip link set lo up
ip link add node0 type bridge
ip address add 10.99.0.1/24 dev node0
ip link set node0 up
ip route add default via 10.99.0.254 dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward

exec "$@"
