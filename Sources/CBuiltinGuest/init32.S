// The init program for 32-bit kernels: system calls by INT 0x80.
#define NAME(suffix) trapline_init32##suffix
#define BITS32 1
#define A1 %ebx
#define A2 %ecx
#define A3 %edx
#define A4 %esi
#define A5 %edi
#define SYSTEM_CALL int $0x80
#define POINTER .long
#define SYS_FORK 2
#define SYS_OPEN 5
#define SYS_EXECVE 11
#define SYS_EXIT 1
#define SYS_MOUNT 21
#define SYS_SYNC 36
#define SYS_MKDIR 39
#define SYS_IOCTL 54
#define SYS_DUP2 63
#define SYS_REBOOT 88
#define SYS_IOPERM 101
#define SYS_WAIT4 114
#include "init.inc"
