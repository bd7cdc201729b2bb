// PAE paging: 64-bit entries, execute-disable, reserved bits, page-directory-pointer registers, 2 MB pages.
#include "lib.inc"
START_PROTECTED

#define PDPT4 0x20000
#define DIR0 0x21000
#define DIR1 0x22000                    /* 40000000- */
#define TABLE 0x23000                   /* 400000-5FFFFF */
#define PTE(n) TABLE+8*(n)
#define PAGE(n) (0x400000+0x1000*(n))
#define A 0x20
#define D 0x40
#define NX 0x80000000                   /* in the high doubleword */

.macro SETPTE n, value, high=0
    movl $(\value), PTE(\n)
    movl $(\high), PTE(\n)+4
    invlpg PAGE(\n)
.endm
.macro RELOAD_CR3
    movl %cr3, %eax
    movl %eax, %cr3
.endm
.macro PAGE_FAULT name, error, address, insn:vararg
    FAULT "\name", PF, \error, \insn
    CHECK "\name: CR2", "rec_cr2", \address
.endm
// A call to code at \address that faults there.
.macro FETCH_FAULT name, error, address
    movl $\address, %ebx
    TRY
    jmp *%ebx
    EXPECT_IP "\name", PF, \error, \address
    CHECK "\name: CR2", "rec_cr2", \address
.endm
.macro FETCH name, address
    movl $\address, %ebx
    TRY
    call *%ebx
    EXPECT_ANY_IP "\name", 0xff
.endm
.macro SET_NXE
    movl $EFER, %ecx
    rdmsr
    orl $EFER_NXE, %eax
    wrmsr
.endm
.macro CLEAR_NXE
    movl $EFER, %ecx
    rdmsr
    andl $~EFER_NXE, %eax
    wrmsr
.endm

main:
    movl $1, %eax
    cpuid
    testb $0x40, %dl
    jnz 1f
    SKIP "PAE", "not in CPUID"
    FINISH
1:  movl $PDPT4, %edi
    xorl %eax, %eax
    movl $0x1000, %ecx
    rep stosl
    movl $DIR0 + 1, PDPT4
    movl $DIR1 + 1, PDPT4 + 8
    movl $0x00000087, DIR0              // 0-1FFFFF, user
    movl $0x00200087, DIR0 + 8
    movl $TABLE + 7, DIR0 + 16
    movl $0x00800087, DIR0 + 32         // 800000: 2 MB
    movl $0x00800087, DIR1              // 40000000 is 800000 too
    movl $TABLE, %edi
    movl $PAGE(0) + 7, %eax
    movl $512, %ecx
2:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x1000, %eax
    loop 2b
    movl %cr4, %eax
    orl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $PDPT4, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $CR0_PG | CR0_WP, %eax
    movl %eax, %cr0

    // ---- Entries ------------------------------------------------------------------------------------------------------
    movl PAGE(0), %eax
    CHECK "read sets A", PTE(0), PAGE(0)+7+A
    CHECK "read sets A in the directory", DIR0+16, TABLE+7+A
    CHECK "pointer entries have no A", PDPT4, DIR0+1
    movl %eax, PAGE(0)
    CHECK "write sets D", PTE(0), PAGE(0)+7+A+D
    movl $0x600dcafe, 0x812340
    CHECK "2 MB page: D", DIR0+32, 0x008000e7
    CHECK "2 MB page in the second gigabyte", 0x40012340, 0x600dcafe
    CHECK "its A", DIR1, 0x008000a7
    SETPTE 1, PAGE(1)+6
    PAGE_FAULT "read, not present", 0, PAGE(1)+8, movl PAGE(1)+8, %eax
    PAGE_FAULT "write, not present", 2, PAGE(1)+8, movl %eax, PAGE(1)+8
    SETPTE 1, PAGE(1)+5
    PAGE_FAULT "write, read-only", 3, PAGE(1)+8, movl %eax, PAGE(1)+8
    SETPTE 1, PAGE(1)+3
    FAULT3 "ring 3: supervisor page", PF, 5, movl PAGE(1)+8, %eax
    PAGE_FAULT "pointer entry not present", 0, 0x80000010, movl 0x80000010, %eax
    PAGE_FAULT "directory entry not present", 2, 0x40212345, movb %al, 0x40212345
    SETPTE 1, PAGE(1)+7, 0x00100000     // bit 52
    PAGE_FAULT "reserved bit 52", 9, PAGE(1), movl PAGE(1), %eax
    PAGE_FAULT "reserved bit 52, write", 0xb, PAGE(1), movl %eax, PAGE(1)
    SETPTE 1, PAGE(1)+7, 0x40000000     // bit 62
    PAGE_FAULT "reserved bit 62", 9, PAGE(1), movl PAGE(1), %eax
    SETPTE 1, PAGE(1)+6, 0x40000000
    PAGE_FAULT "reserved bit 62, not present", 0, PAGE(1), movl PAGE(1), %eax
    SETPTE 1, PAGE(1)+7
    movl $0x00802087, DIR0 + 32         // bit 13 of a 2 MB page
    RELOAD_CR3
    PAGE_FAULT "2 MB page: reserved bit 13", 9, 0x800000, movl 0x800000, %eax
    movl $0x00800087, DIR0 + 32
    movl $0x00100000, DIR0 + 20
    RELOAD_CR3
    PAGE_FAULT "directory entry: reserved bit 52", 9, PAGE(0), movl PAGE(0), %eax
    movl $0, DIR0 + 20
    RELOAD_CR3

    // ---- Execute-disable ------------------------------------------------------------------------------------------------
    movl $0x80000001, %eax
    cpuid
    testl $0x100000, %edx
    jnz 1f
    SKIP "NX", "not in CPUID"
    jmp no_nx
1:  movb $0xc3, PAGE(2)
    movb $0xc3, PAGE(3)
    movb $0xc3, 0x800000
    SETPTE 3, PAGE(3)+6
    FETCH_FAULT "NXE off: fetch, not present", 0, PAGE(3)
    SETPTE 2, PAGE(2)+7, NX
    PAGE_FAULT "NXE off: NX is reserved", 9, PAGE(2), movl PAGE(2), %eax
    FETCH_FAULT "NXE off: NX is reserved, fetch", 9, PAGE(2)
    SET_NXE
    invlpg PAGE(2)
    NOFAULT "NX page: read", movl PAGE(2), %eax
    NOFAULT "NX page: write", movl %eax, PAGE(2)
    FETCH_FAULT "NX page: fetch", 0x11, PAGE(2)
    TRY
    movl $PAGE(2), %ebx
    calll enter_ring3_32
    jmp *%ebx
    EXPECT_IP "NX page: fetch at ring 3", PF, 0x15, PAGE(2)
    FETCH_FAULT "NXE: fetch, not present", 0x10, PAGE(3)
    PAGE_FAULT "NXE: read, not present", 0, PAGE(3), movl PAGE(3), %eax
    SETPTE 3, PAGE(3)+3
    TRY
    movl $PAGE(3), %ebx
    calll enter_ring3_32
    jmp *%ebx
    EXPECT_IP "NXE: fetch of a supervisor page", PF, 0x15, PAGE(3)
    movb $0x90, PAGE(2)-1               // NOP, then the NX page
    movl $PAGE(2)-1, %ebx
    TRY
    jmp *%ebx
    EXPECT_IP "running into an NX page", PF, 0x11, PAGE(2)
    movb $0xb8, PAGE(2)-1
    TRY
    jmp *%ebx
    EXPECT_IP "instruction across into an NX page", PF, 0x11, PAGE(2)-1
    CHECK "its CR2", "rec_cr2", PAGE(2)
    SETPTE 2, PAGE(2)+7
    FETCH "NX taken away", PAGE(2)
    movl $NX, DIR0 + 20
    RELOAD_CR3
    FETCH_FAULT "NX in the directory", 0x11, PAGE(2)
    movl $0, DIR0 + 20
    movl $NX, DIR0 + 36
    RELOAD_CR3
    FETCH_FAULT "NX 2 MB page", 0x11, 0x800000
    NOFAULT "NX 2 MB page: read", movl 0x800000, %eax
    movl $0, DIR0 + 36
    RELOAD_CR3
    FETCH "2 MB page: fetch", 0x800000
    SETPTE 2, PAGE(2)+6, NX
    FETCH_FAULT "NX and not present", 0x10, PAGE(2)
    SETPTE 2, PAGE(2)+7, NX + 0x00100000
    FETCH_FAULT "NX and reserved", 0x19, PAGE(2)
    SETPTE 2, PAGE(2)+7, NX
    movl PAGE(2), %eax
    CLEAR_NXE
    invlpg PAGE(2)
    PAGE_FAULT "NXE cleared: reserved again", 9, PAGE(2), movl PAGE(2), %eax
    SETPTE 2, PAGE(2)+7
no_nx:

    // ---- Pointer registers ------------------------------------------------------------------------------------------------
    cmpb $0, vendor_amd
    jne 2f
    movl $0x40010000, %ebx
    movl (%ebx), %eax
    movl $0, PDPT4 + 8
    invlpg (%ebx)
    NOFAULT "pointer entries are read by MOV to CR3 only", movl 0x40010000, %eax
    RELOAD_CR3
    PAGE_FAULT "then the change shows", 0, 0x40010000, movl 0x40010000, %eax
    movl $DIR1 + 1 + 0x20, PDPT4 + 8    // bit 5
    movl $PDPT4, %eax
    FAULT "MOV to CR3, reserved bit in a pointer entry", GP, 0, movl %eax, %cr3
    movl $DIR1 + 0x1e0, PDPT4 + 8
    NOFAULT "a pointer entry that is not present may have any bit", movl %eax, %cr3
    movl $DIR1 + 1, PDPT4 + 8
    RELOAD_CR3
2:  // CR3 addresses 32 bytes.
    movl $DIR0 + 1, 0x24020
    movl $0, 0x24028
    movl $0, 0x24030
    movl $0, 0x24038
    movl $0, 0x24024
    movl $0, 0x2402c
    movl $0, 0x24034
    movl $0, 0x2403c
    movl $0x24020, %eax
    NOFAULT "pointer table on a 32-byte boundary", movl %eax, %cr3
    PAGE_FAULT "it has one entry", 0, 0x40000000, movl 0x40000000, %eax
    // Paging off; PAE with a bad pointer entry cannot be switched on.
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    cmpb $0, vendor_amd
    jne 3f
    movl $DIR0 + 1 + 6, 0x24028
    orl $CR0_PG, %eax
    FAULT "MOV to CR0, reserved bits in a pointer entry", GP, 0, movl %eax, %cr0
    movl %cr0, %eax
    andl $CR0_PG, %eax
    CHECK "paging stays off", "%eax", 0
3:  movl %cr4, %eax
    andl $~CR4_PAE, %eax
    movl %eax, %cr4
    FINISH
