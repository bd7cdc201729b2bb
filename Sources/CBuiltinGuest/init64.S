// The init program for 64-bit kernels: system calls by SYSCALL.
#define NAME(suffix) trapline_init64##suffix
#define BITS32 0
#define A1 %edi
#define A2 %esi
#define A3 %edx
#define A4 %r10d
#define A5 %r8d
#define SYSTEM_CALL syscall
#define POINTER .quad
#define SYS_OPEN 2
#define SYS_IOCTL 16
#define SYS_DUP2 33
#define SYS_FORK 57
#define SYS_EXECVE 59
#define SYS_EXIT 60
#define SYS_WAIT4 61
#define SYS_MKDIR 83
#define SYS_SYNC 162
#define SYS_MOUNT 165
#define SYS_REBOOT 169
#define SYS_IOPERM 173
#include "init.inc"
