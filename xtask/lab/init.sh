#!/bin/sh
# Process 1 of a lab cell. ttyS0 is the kernel's console; ttyS1 carries, in raw bytes:
#   RS nonce " begin " release LF, the command's output,
#   RS nonce " end " exit-code size LF, then so many bytes of tar.gz: the files in /out.
# In between, /bin/poke may ask for the kernel's memory to be changed; see there.
# RS is the byte 0x1e. The host ends the emulator when it has them all.
export PATH=/bin:/add HOME=/ TERM=linux
. /lab.conf

/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
hostname lab
# Before 5.11, BPF maps and programs count as locked memory.
ulimit -l unlimited

# Held open, so that the settings stay.
exec 3>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo

# A module that is built in is there already.
for module in $MODULES; do
    [ -e "/sys/module/$module" ] || modprobe "$module" >&3 2>&3 || echo "lab: no $module" >&3
done

printf '\036%s begin %s\n' "$NONCE" "$(uname -r)" >&3
sh /cmd </dev/null >&3 2>&1 3>&-
code=$?

size=0
if [ -n "$(ls -A /out)" ]; then
    tar -C /out -czf /tmp/out.tar.gz .
    size=$(stat -c %s /tmp/out.tar.gz)
fi
printf '\036%s end %d %d\n' "$NONCE" "$code" "$size" >&3
[ "$size" = 0 ] || cat /tmp/out.tar.gz >&3

# The last bytes can be lost at power-off.
sleep 1
poweroff -f
