// Byte offsets into HostState, for the assembly; HostCPU.c asserts them.
#define STATE_FX 0
#define STATE_GPR 512
#define STATE_RIP 640
#define STATE_RFLAGS 648
#define STATE_ES 656
#define STATE_CS 658
#define STATE_SS 660
#define STATE_DS 662
#define STATE_FS 664
#define STATE_GS 666
#define STATE_SIZE 704
