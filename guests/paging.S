// 32-bit paging: accessed and dirty bits, protection and error codes, page-crossing accesses, restartable instructions,
// invalidation, 4 MB pages, what the processor itself accesses, self-modifying code, double faults.
#include "lib.inc"
START_PROTECTED

#define DIRECTORY 0x20000
#define TABLE0 0x21000                  /* 0-3FFFFF one to one, user, writable */
#define TABLE1 0x22000                  /* 400000-7FFFFF: the tests' pages */
#define PTE(n) TABLE1+4*(n)
#define PAGE(n) (0x400000+0x1000*(n))
#define A 0x20
#define D 0x40

.macro SETPTE n, value
    movl $(\value), PTE(\n)
    invlpg PAGE(\n)
.endm
.macro SETPDE1 value
    movl $(\value), DIRECTORY + 4
    movl %cr3, %eax
    movl %eax, %cr3
.endm
// The page fault and its address.
.macro PAGE_FAULT name, error, address, insn:vararg
    FAULT "\name", PF, \error, \insn
    CHECK "\name: CR2", "rec_cr2", \address
.endm
.macro PAGE_FAULT3 name, error, address, insn:vararg
    FAULT3 "\name", PF, \error, \insn
    CHECK "\name: CR2", "rec_cr2", \address
.endm
.macro SET_CR0 bits
    movl %cr0, %eax
    orl $(\bits), %eax
    movl %eax, %cr0
.endm
.macro CLEAR_CR0 bits
    movl %cr0, %eax
    andl $~(\bits), %eax
    movl %eax, %cr0
.endm
.macro SET_CR4 bits
    movl %cr4, %eax
    orl $(\bits), %eax
    movl %eax, %cr4
.endm
.macro CLEAR_CR4 bits
    movl %cr4, %eax
    andl $~(\bits), %eax
    movl %eax, %cr4
.endm

main:
    movl $DIRECTORY, %edi
    xorl %eax, %eax
    movl $1024, %ecx
    rep stosl
    movl $TABLE0, %edi
    movl $7, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $4, %edi
    addl $0x1000, %eax
    loop 1b
    movl $TABLE0 + 7, DIRECTORY
    movl $TABLE1 + 7, DIRECTORY + 4
    movl $DIRECTORY, %eax
    movl %eax, %cr3
    SET_CR0 CR0_PG

    // ---- Accessed and dirty bits ------------------------------------------------------------------------------------
    SETPDE1 TABLE1 + 7
    movl PAGE(0), %eax
    CHECK "read sets A", PTE(0), PAGE(0)+7+A
    CHECK "read sets A in the directory", DIRECTORY+4, TABLE1+7+A
    CHECK "other pages stay", PTE(1), PAGE(1)+7
    movl %eax, PAGE(0)
    CHECK "write sets D", PTE(0), PAGE(0)+7+A+D
    movl %eax, PAGE(1)
    CHECK "write sets A and D", PTE(1), PAGE(1)+7+A+D
    CHECK "no D in the directory", DIRECTORY+4, TABLE1+7+A
    SETPTE 1, PAGE(1)+7
    movl PAGE(1), %eax
    CHECK "A again after INVLPG", PTE(1), PAGE(1)+7+A
    SETPTE 1, PAGE(1)+7+A
    movl %eax, PAGE(1)
    CHECK "D again after INVLPG", PTE(1), PAGE(1)+7+A+D
    movl $0xffffffff, PAGE(2)
    SETPTE 2, PAGE(2)+7
    xorl %eax, %eax
    movl $1, %ecx
    cmpxchgl %ecx, PAGE(2)
    CHECK "CMPXCHG that does not match sets D", PTE(2), PAGE(2)+7+A+D
    SETPTE 2, PAGE(2)+7
    btl $0, PAGE(2)
    CHECK "BT sets A only", PTE(2), PAGE(2)+7+A
    SETPTE 2, PAGE(2)+7
    lock btsl $0, PAGE(2)
    CHECK "BTS sets D", PTE(2), PAGE(2)+7+A+D
    movl $PAGE(3), %edi
    xorl %ecx, %ecx
    SETPTE 3, PAGE(3)+7
    xorl %ecx, %ecx
    rep stosb
    CHECK "REP STOS with count 0 touches nothing", PTE(3), PAGE(3)+7
    SETPTE 3, PAGE(3)+6
    PAGE_FAULT "not present", 0, PAGE(3)+0x10, movl PAGE(3)+0x10, %eax
    CHECK "a fault sets no A", PTE(3), PAGE(3)+6
    SETPTE 3, PAGE(3)+5
    SET_CR0 CR0_WP
    PAGE_FAULT "write to read-only with WP", 3, PAGE(3)+0x10, movl %eax, PAGE(3)+0x10
    movl PTE(3), %eax
    andl $D, %eax
    CHECK "sets no D", "%eax", 0
    CLEAR_CR0 CR0_WP
    SETPTE 3, PAGE(3)+5
    movl %eax, PAGE(3)
    CHECK "write to read-only without WP sets D", PTE(3), PAGE(3)+5+A+D
    movb $0xc3, PAGE(4)                 // RET
    SETPTE 4, PAGE(4)+7
    movl $PAGE(4), %eax
    call *%eax
    CHECK "fetch sets A only", PTE(4), PAGE(4)+7+A
    SETPTE 4, PAGE(4)+7
    SETPTE 5, PAGE(5)+7
    movl %eax, PAGE(5)-2
    CHECK "store across pages: D in the first", PTE(4), PAGE(4)+7+A+D
    CHECK "store across pages: D in the second", PTE(5), PAGE(5)+7+A+D
    SETPTE 4, PAGE(4)+7
    SETPTE 5, PAGE(5)+7
    movl PAGE(5)-2, %eax
    CHECK "load across pages: A in both", PTE(5), PAGE(5)+7+A

    // ---- Protection and error codes -----------------------------------------------------------------------------------
    SET_CR0 CR0_WP
    SETPTE 0, PAGE(0)+6
    PAGE_FAULT "ring 0: read, not present", 0, PAGE(0)+0x123, movb PAGE(0)+0x123, %al
    PAGE_FAULT "ring 0: write, not present", 2, PAGE(0)+0x124, movb %al, PAGE(0)+0x124
    PAGE_FAULT3 "ring 3: read, not present", 4, PAGE(0)+0x125, movb PAGE(0)+0x125, %al
    PAGE_FAULT3 "ring 3: write, not present", 6, PAGE(0)+0x126, movb %al, PAGE(0)+0x126
    SETPTE 0, PAGE(0)+3
    NOFAULT "ring 0: supervisor page", movb %al, PAGE(0)
    PAGE_FAULT3 "ring 3: read, supervisor page", 5, PAGE(0)+1, movb PAGE(0)+1, %al
    PAGE_FAULT3 "ring 3: write, supervisor page", 7, PAGE(0)+2, movb %al, PAGE(0)+2
    SETPTE 0, PAGE(0)+5
    NOFAULT3 "ring 3: read, read-only", movb PAGE(0), %al
    PAGE_FAULT3 "ring 3: write, read-only", 7, PAGE(0), movb %al, PAGE(0)
    PAGE_FAULT "ring 0: write, read-only user page, WP", 3, PAGE(0), movb %al, PAGE(0)
    SETPTE 0, PAGE(0)+1
    PAGE_FAULT "ring 0: write, read-only supervisor page, WP", 3, PAGE(0), movb %al, PAGE(0)
    CLEAR_CR0 CR0_WP
    NOFAULT "ring 0: write, read-only supervisor page", movb %al, PAGE(0)
    SETPTE 0, PAGE(0)+5
    NOFAULT "ring 0: write, read-only user page", movb %al, PAGE(0)
    PAGE_FAULT3 "ring 3: write, read-only, without WP", 7, PAGE(0), movb %al, PAGE(0)
    NOFAULT "a cached writable entry …", movb %al, PAGE(0)
    SET_CR0 CR0_WP
    PAGE_FAULT "… is read-only once WP is set", 3, PAGE(0), movb %al, PAGE(0)
    SETPTE 0, PAGE(0)+7
    SETPDE1 TABLE1+3
    PAGE_FAULT3 "ring 3: supervisor directory entry", 5, PAGE(0), movb PAGE(0), %al
    SETPDE1 TABLE1+5
    PAGE_FAULT3 "ring 3: read-only directory entry", 7, PAGE(0), movb %al, PAGE(0)
    PAGE_FAULT "ring 0: read-only directory entry, WP", 3, PAGE(0), movb %al, PAGE(0)
    SETPDE1 TABLE1+6
    PAGE_FAULT "directory entry not present", 2, PAGE(0), movb %al, PAGE(0)
    SETPDE1 TABLE1+7
    SETPTE 1, PAGE(1)+6
    movl $PAGE(1)+4, %ebx
    TRY
    jmp *%ebx
    EXPECT_IP "fetch, not present", PF, 0, PAGE(1)+4
    CHECK "its CR2", "rec_cr2", PAGE(1)+4
    SETPTE 1, PAGE(1)+3
    TRY
    calll enter_ring3_32
    jmp *%ebx
    EXPECT_IP "ring 3: fetch, supervisor page", PF, 5, PAGE(1)+4
    SETPTE 1, PAGE(1)+6
    movb $0xb8, PAGE(1)-2               // MOV EAX across the pages
    movl $PAGE(1)-2, %ebx
    TRY
    jmp *%ebx
    EXPECT_IP "instruction across pages", PF, 0, PAGE(1)-2
    CHECK "CR2 is the second page", "rec_cr2", PAGE(1)
    movb $0x90, PAGE(1)-1
    movl $PAGE(1)-1, %ebx
    TRY
    jmp *%ebx
    EXPECT_IP "last instruction of a page runs", PF, 0, PAGE(1)

    // ---- Accesses across pages ----------------------------------------------------------------------------------------
    SETPTE 1, PAGE(1)+6
    movl $0x11111111, PAGE(1)-4
    PAGE_FAULT "load across, second missing", 0, PAGE(1), movl PAGE(1)-2, %eax
    movl $-1, %eax
    PAGE_FAULT "store across, second missing", 2, PAGE(1), movl %eax, PAGE(1)-2
    CHECK "the first page is untouched", PAGE(1)-4, 0x11111111
    PAGE_FAULT "word store across", 2, PAGE(1), movw %ax, PAGE(1)-1
    CHECK "the first byte is untouched", PAGE(1)-4, 0x11111111
    PAGE_FAULT "read-modify-write across", 2, PAGE(1), addl %eax, PAGE(1)-2
    PAGE_FAULT "XCHG across", 2, PAGE(1), xchgl %eax, PAGE(1)-3
    CHECK "its register is untouched", "%eax", 0xffffffff
    CHECK "its memory is untouched", PAGE(1)-4, 0x11111111
    PAGE_FAULT "CMPXCHG8B across", 2, PAGE(1), cmpxchg8b PAGE(1)-4
    SETPTE 1, PAGE(1)+5
    PAGE_FAULT "store across, second read-only", 3, PAGE(1), movl %eax, PAGE(1)-1
    CHECK "the first page is untouched again", PAGE(1)-4, 0x11111111
    SETPTE 1, PAGE(1)+3
    PAGE_FAULT3 "ring 3: store across, second supervisor", 7, PAGE(1), movl %eax, PAGE(1)-1
    SETPTE 0, PAGE(0)+6
    PAGE_FAULT "store across, first missing", 2, PAGE(1)-3, movl %eax, PAGE(1)-3
    SETPTE 1, PAGE(1)+6
    PAGE_FAULT "store across, both missing", 2, PAGE(1)-1, movl %eax, PAGE(1)-1
    SETPTE 0, PAGE(0)+7

    // ---- Instructions that can be restarted -----------------------------------------------------------------------------
    movl $PAGE(1)-8, %edi
    movl $0x500, %esi
    movl $5, %ecx
    PAGE_FAULT "REP MOVSL into a missing page", 2, PAGE(1), rep movsl
    CHECK "REP MOVSL: ECX", "%ecx", 3
    CHECK "REP MOVSL: ESI", "%esi", 0x508
    CHECK "REP MOVSL: EDI", "%edi", PAGE(1)
    movl rec_flags, %eax
    andl $FL_RF, %eax
    CHECK "REP: RF is pushed", "%eax", FL_RF
    movl $0x600, %edi
    movl $PAGE(1)-3, %esi
    movl $0x10, %ecx
    PAGE_FAULT "REP MOVSB out of a missing page", 0, PAGE(1), rep movsb
    CHECK "REP MOVSB: ECX", "%ecx", 0x0d
    CHECK "REP MOVSB: EDI", "%edi", 0x603
    movl $PAGE(1)-6, %edi
    movl $4, %ecx
    movl $0x22222222, PAGE(1)-4
    movl $0x77777777, %eax
    PAGE_FAULT "REP STOSL across the edge", 2, PAGE(1), rep stosl
    CHECK "REP STOSL: ECX", "%ecx", 3
    CHECK "REP STOSL: EDI", "%edi", PAGE(1)-2
    CHECK "the crossing element is not written", PAGE(1)-4, 0x22227777
    SETPTE 1, PAGE(1)+7
    SETPTE 0, PAGE(0)+6
    movl $PAGE(1)+2, %edi
    movl $8, %ecx
    std
    PAGE_FAULT "REP STOSB downwards", 2, PAGE(1)-1, rep stosb
    cld
    CHECK "downwards: ECX", "%ecx", 5
    CHECK "downwards: EDI", "%edi", PAGE(1)-1
    SETPTE 0, PAGE(0)+7
    SETPTE 1, PAGE(1)+6
    movl $PAGE(1)-2, %edi
    movb $0x77, %al
    movb %al, PAGE(1)-2
    movb %al, PAGE(1)-1
    movl $9, %ecx
    PAGE_FAULT "REPE SCASB", 0, PAGE(1), repe scasb
    CHECK "REPE SCASB: ECX", "%ecx", 7
    CHECK "REPE SCASB: EDI", "%edi", PAGE(1)
    movl $PAGE(1)-1, %esi
    movl $PAGE(1)-2, %edi
    movl $9, %ecx
    PAGE_FAULT "REPE CMPSB", 0, PAGE(1), repe cmpsb
    CHECK "REPE CMPSB: ECX", "%ecx", 8
    CHECK "REPE CMPSB: ESI", "%esi", PAGE(1)
    movl $PAGE(1)-2, %edi
    movw $0x21, %dx
    movl $4, %ecx
    PAGE_FAULT "REP INSB", 2, PAGE(1), rep insb
    CHECK "REP INSB: ECX", "%ecx", 2
    movl $PAGE(1)-1, %esi
    movw $0x80, %dx
    movl $4, %ecx
    PAGE_FAULT "REP OUTSB", 0, PAGE(1), rep outsb
    CHECK "REP OUTSB: ECX", "%ecx", 3
    // With ESP in the missing page's neighbourhood (ring 3, so that the fault has a stack).
    movl $PAGE(2), user_sp
    movl $0x89abcdef, PAGE(2)
    PAGE_FAULT3 "PUSH", 6, PAGE(2)-4, pushl %eax
    CHECK "PUSH: ESP", "rec_sp", PAGE(2)
    PAGE_FAULT3 "CALL", 6, PAGE(2)-4, call main
    PAGE_FAULT3 "CALL far", 6, PAGE(2)-4, lcall $CS32_3, $main
    PAGE_FAULT3 "PUSHF", 6, PAGE(2)-4, pushfl
    PAGE_FAULT3 "POP to a missing page", 6, PAGE(1)+0x40, popl PAGE(1)+0x40
    CHECK "POP to a missing page: ESP", "rec_sp", PAGE(2)
    movl $PAGE(1)+4, user_sp
    PAGE_FAULT3 "RET", 4, PAGE(1)+4, ret
    CHECK "RET: ESP", "rec_sp", PAGE(1)+4
    movl $PAGE(1)-4, user_sp
    movl $0x500, PAGE(1)-4
    movl $5, %ecx
    PAGE_FAULT3 "far RET, second doubleword", 4, PAGE(1), lretl
    CHECK "far RET: ESP", "rec_sp", PAGE(1)-4
    movl $9, %ebp
    PAGE_FAULT3 "POPA", 4, PAGE(1), popal
    CHECK "POPA: ESP", "rec_sp", PAGE(1)-4
    movl $PAGE(1)-8, user_sp
    PAGE_FAULT3 "IRET at ring 3", 4, PAGE(1), iretl
    movl $PAGE(2)+0x1c, user_sp
    PAGE_FAULT3 "PUSHA", 6, PAGE(2)-4, pushal
    CHECK "PUSHA: ESP", "rec_sp", PAGE(2)+0x1c
    movl $PAGE(2), user_sp
    movl $9, %ebp
    PAGE_FAULT3 "ENTER", 6, PAGE(2)-4, enter $0, $0
    CHECK "ENTER: EBP", "%ebp", 9
    CHECK "ENTER: ESP", "rec_sp", PAGE(2)
    movl $RING3_TOP, user_sp
    movl $PAGE(1)-4, %ebx
    PAGE_FAULT "LES across", 0, PAGE(1), les (%ebx), %ecx
    movl $7, %edx
    movl $PAGE(1)+8, %ebp
    PAGE_FAULT "LEAVE from a missing page", 0, PAGE(1)+8, leave
    CHECK "LEAVE: EBP", "%ebp", PAGE(1)+8
    PAGE_FAULT "DIV by missing memory", 0, PAGE(1)+8, divl PAGE(1)+8
    CHECK "DIV: EDX", "%edx", 7
    PAGE_FAULT "INC of missing memory is a write", 2, PAGE(1)+8, incl PAGE(1)+8
    PAGE_FAULT "TEST of missing memory is a read", 0, PAGE(1)+8, testl %eax, PAGE(1)+8
    PAGE_FAULT "CMPXCHG of missing memory is a write", 2, PAGE(1)+8, cmpxchgl %ecx, PAGE(1)+8
    PAGE_FAULT "XADD", 2, PAGE(1)+8, xaddl %ecx, PAGE(1)+8
    PAGE_FAULT "SHLD", 2, PAGE(1)+8, shldl $3, %ecx, PAGE(1)+8
    movl $0x100, %ecx
    PAGE_FAULT "BTC with a far bit", 2, PAGE(1)+0x20, btcl %ecx, PAGE(1)
    PAGE_FAULT "SETC", 2, PAGE(1)+8, setc PAGE(1)+8
    PAGE_FAULT "SGDT", 2, PAGE(1)+8, sgdtl PAGE(1)+8
    PAGE_FAULT "LGDT", 0, PAGE(1)+8, lgdtl PAGE(1)+8
    PAGE_FAULT "FNSTENV", 2, PAGE(1)+8, fnstenv PAGE(1)+8
    NOFAULT "INVLPG of a missing page", invlpg PAGE(1)
    NOFAULT "LEA of a missing page", leal PAGE(1), %eax
    NOFAULT "long NOP with a missing page", nopl PAGE(1)
    NOFAULT "PREFETCH of a missing page", prefetchnta PAGE(1)

    // ---- What the processor accesses for itself is a supervisor access -----------------------------------------------------
    movl $DESC_LO(0, 0xfffff), PAGE(6)
    movl $DESC_HI(0, 0xfffff, 0xf2, 0xc), PAGE(6)+4
    SETDESC 2, PAGE(6), 0x1fff, 0x82    // LDT over pages 6 and 7
    movl $SEL(2), %eax
    lldt %ax
    movl $7, %ebx
    SETPTE 6, PAGE(6)+3
    NOFAULT3 "ring 3: LDT on a supervisor page", movl %ebx, %fs
    CHECK "its descriptor is marked accessed", PAGE(6)+4, DESC_HI(0,0xfffff,0xf3,0xc)
    CHECK "its page is dirty", PTE(6), PAGE(6)+3+A+D
    CLEAR_CR0 CR0_WP
    movb $0xf2, PAGE(6)+5
    SETPTE 6, PAGE(6)+1
    SET_CR0 CR0_WP
    FAULT3 "ring 3: LDT read-only, accessed bit", PF, 3, movl %ebx, %fs
    CLEAR_CR0 CR0_WP
    movb $0xf3, PAGE(6)+5
    SET_CR0 CR0_WP
    NOFAULT3 "ring 3: LDT read-only, already accessed", movl %ebx, %fs
    SETPTE 7, PAGE(7)+6
    movl $0x1007, %ebx
    PAGE_FAULT3 "ring 3: LDT page missing", 0, PAGE(7), movl %ebx, %fs
    PAGE_FAULT "LAR: LDT page missing", 0, PAGE(7), larl %ebx, %eax
    SETPTE 7, PAGE(7)+7
    xorl %eax, %eax
    lldt %ax
    // An IDT over two pages; the first, with vector 0 only, is missing.
    movl $idt32, %esi
    movl $PAGE(9)-8, %edi
    movl $VECTORS * 2, %ecx
    rep movsl
    SETPTE 8, PAGE(8)+6
    SETPTE 9, PAGE(9)+1
    movl $PAGE(9)-8, idt32_pointer + 2
    lidtl idt32_pointer
    NOFAULT3 "IDT on a supervisor page", nop
    xorl %ecx, %ecx
    PAGE_FAULT3 "#DE with its gate missing becomes #PF", 0, PAGE(9)-8, divl %ecx
    PAGE_FAULT "INT 0 with its gate missing", 0, PAGE(9)-8, int $0
    movl $idt32, idt32_pointer + 2
    lidtl idt32_pointer
    // Ring 0's stack missing: a page fault while one is delivered is a double fault, taken by a task of its own.
    SETDESC 16, 0x42000, 103, 0x89
    movl $(SEL(16)) << 16, idt32 + 8 * DF
    movl $0x8500, idt32 + 8 * DF + 4
    movl $0x42000, %edi
    xorl %eax, %eax
    movl $26, %ecx
    rep stosl
    movl $DIRECTORY, 0x42000 + 28
    movl $double_fault, 0x42000 + 32
    movl $2, 0x42000 + 36
    movl $0x43000, 0x42000 + 56
    movl $CS32, 0x42000 + 76
    movl $DS32, 0x42000 + 72
    movl $DS32, 0x42000 + 80
    movl $DS32, 0x42000 + 84
    movl $PAGE(2), tss32 + 4            // its first push goes to page 1
    SETPTE 1, PAGE(1)+6
    FAULT3 "#PF, its stack missing: double fault", DF, 0, movl %eax, PAGE(1)+0x80
    CHECK "CR2 of the second fault", "rec_cr2", PAGE(2)-4
    movl $0x8900, gdt + TSS_SEL + 4
    movl $TSS_SEL, %eax
    ltr %ax
    movb $0x89, gdt + SEL(16) + 5
    movl $RING0_TOP, tss32 + 4
    RESETIDT DF

    // ---- Invalidation, aliases, 4 MB pages ---------------------------------------------------------------------------------
    SETPTE 1, PAGE(1)+7
    SETPTE 2, PAGE(2)+7
    movl $0xaaaaaaaa, PAGE(1)
    movl $0xbbbbbbbb, PAGE(2)
    SETPTE 3, PAGE(1)+7
    CHECK "alias reads", PAGE(3), 0xaaaaaaaa
    movl $0xcccccccc, PAGE(3)
    CHECK "alias writes", PAGE(1), 0xcccccccc
    SETPTE 3, PAGE(2)+7
    CHECK "INVLPG shows the new mapping", PAGE(3), 0xbbbbbbbb
    movl $PAGE(1)+7, PTE(3)
    movl %cr3, %eax
    movl %eax, %cr3
    CHECK "MOV to CR3 shows the new mapping", PAGE(3), 0xcccccccc
    SETPTE 3, 0
    movl $PAGE(2)+7, PTE(3)
    CHECK "a missing page is not remembered", PAGE(3), 0xbbbbbbbb
    SETPTE 3, 0
    PAGE_FAULT "page taken away", 0, PAGE(3), movl PAGE(3), %eax
    movl $PAGE(1)+7, PTE(3)
    CHECK "page given after its fault", PAGE(3), 0xcccccccc
    SET_CR4 CR4_PGE
    SETPTE 3, PAGE(1)+0x107
    movl PAGE(3), %eax
    movl $PAGE(2)+0x107, PTE(3)
    invlpg PAGE(3)
    CHECK "INVLPG drops a global page", PAGE(3), 0xbbbbbbbb
    movl $PAGE(1)+0x107, PTE(3)
    CLEAR_CR4 CR4_PGE
    CHECK "clearing CR4.PGE drops global pages", PAGE(3), 0xcccccccc
    movl $PAGE(2)+0x107, PTE(3)
    movl %cr3, %eax
    movl %eax, %cr3
    CHECK "without PGE no page is global", PAGE(3), 0xbbbbbbbb
    movl $PAGE(1)+7, PTE(3)
    CLEAR_CR0 CR0_PG
    SET_CR0 CR0_PG
    CHECK "switching paging off and on", PAGE(3), 0xcccccccc
    movl $DIRECTORY+0x18, %eax
    movl %eax, %cr3
    movl %cr3, %eax
    CHECK "CR3 keeps PWT and PCD", "%eax", DIRECTORY+0x18
    movl $DIRECTORY, %eax
    movl %eax, %cr3
    CLEAR_CR4 CR4_PSE
    movl $0x00800087, DIRECTORY + 8     // 800000: 4 MB page, or with PSE off the table at 800000
    movl $PAGE(1)+7, 0x3ff000           // nothing there: the table lies above the mapped part
    SETPDE1 TABLE1+7
    CLEAR_CR0 CR0_PG
    movl $PAGE(1)+7, 0x800000
    movl $0x12344321, 0x800ffc
    SET_CR0 CR0_PG
    CHECK "PS is ignored without CR4.PSE", 0x800000, 0xcccccccc
    SET_CR4 CR4_PSE
    CHECK "4 MB page", 0x800ffc, 0x12344321
    CHECK "4 MB page: A", DIRECTORY+8, 0x008000a7
    movl %eax, 0x800800
    CHECK "4 MB page: D", DIRECTORY+8, 0x008000e7
    movl $0x00800083, DIRECTORY + 8
    invlpg 0x900000
    PAGE_FAULT3 "4 MB page: supervisor", 5, 0x812345, movb 0x812345, %al
    movl $0x00800085, DIRECTORY + 8
    invlpg 0x900000
    PAGE_FAULT "4 MB page: read-only, WP", 3, 0xbfffff, movb %al, 0xbfffff
    movl $0x00a00087, DIRECTORY + 8     // bit 21
    invlpg 0x900000
    PAGE_FAULT "4 MB page: reserved bit", 9, 0x800000, movb 0x800000, %al
    PAGE_FAULT "4 MB page: reserved bit, write", 0xb, 0x800000, movb %al, 0x800000
    PAGE_FAULT3 "4 MB page: reserved bit, ring 3", 0xd, 0x800000, movb 0x800000, %al
    movl $0x00a00086, DIRECTORY + 8
    invlpg 0x900000
    PAGE_FAULT "4 MB page: not present, reserved bit does not matter", 0, 0x800000, movb 0x800000, %al

    // ---- Code that changes ---------------------------------------------------------------------------------------------------
    SETPTE 1, PAGE(1)+7
    movl $smc_ahead, %ebx
    movl $4, %ecx
    xorl %esi, %esi
1:  movb %cl, 1(%ebx)                   // the immediate of the instruction ahead
smc_ahead:
    movl $0x00, %eax
    addl %eax, %esi
    loop 1b
    CHECK "code ahead", "%esi", 10
    xorl %esi, %esi
    movl $3, %ecx
2:  addl $1, %esi                       // 83 C6 01
    incb 2b + 2
    loop 2b
    CHECK "code behind", "%esi", 6
    movl $smc_code, %esi
    movl $PAGE(1)+0x10, %edi
    movl $smc_code_end - smc_code, %ecx
    rep movsb
    SETPTE 3, PAGE(1)+7
    movl $PAGE(1)+0x10, %ebx
    call *%ebx
    CHECK "copied code", "%eax", 0x11
    movb $0x22, PAGE(1)+0x11
    call *%ebx
    CHECK "changed in place", "%eax", 0x22
    movb $0x33, PAGE(3)+0x11
    call *%ebx
    CHECK "changed through an alias", "%eax", 0x33
    leal 0x2000(%ebx), %edx
    call *%edx
    CHECK "run through an alias", "%eax", 0x33
    movb $0x44, PAGE(1)+0x11
    call *%edx
    CHECK "changed in place, run through an alias", "%eax", 0x44
    movl $smc_code, %esi
    movl $PAGE(2)+0x10, %edi
    movl $smc_code_end - smc_code, %ecx
    rep movsb
    SETPTE 3, PAGE(2)+7
    call *%edx
    CHECK "the page under the code is exchanged", "%eax", 0x11
    movl $PAGE(4)-3, %edx               // across two pages: MOV EAX, imm32; RET
    SETPTE 3, PAGE(2)+7
    SETPTE 4, PAGE(4)+7
    movl $0x345678b8, PAGE(4)-3
    movw $0xc312, PAGE(4)+1
    movb $0x34, PAGE(4)
    call *%edx
    CHECK "code across pages", "%eax", 0x12345678
    movb $0x99, PAGE(4)+1
    call *%edx
    CHECK "its second page changes", "%eax", 0x99345678
    SETPTE 4, PAGE(5)+7
    movl $0xc3c3aabb, PAGE(5)
    call *%edx
    CHECK "its second page is exchanged", "%eax", 0xaabb5678
    movl $PAGE(1)+0x20, %edi
    movb $0x90, %al
    movl $0x40, %ecx
    rep stosb
    movb $0xc3, (%edi)
    movl $PAGE(1)+0x20, %edx
    call *%edx
    movl $PAGE(1)+0x28, %edi
    movl $0xc340c340, %eax              // INC EAX; RET
    stosl
    xorl %eax, %eax
    call *%edx
    CHECK "code written by a string instruction", "%eax", 1
    movl $smc_push, %edx
    movl %esp, %ebp
    leal smc_target + 5, %esp
    movl $0x00000077, %eax
    jmp *%edx
smc_push:
    pushl %eax                          // the stack is the code: the immediate ahead
smc_target:
    movl $0, %eax
    movl %ebp, %esp
    CHECK "code changed by PUSH", "%eax", 0x77
    FINISH

smc_code:
    movl $0x11, %eax
    ret
smc_code_end:
double_fault:
    movl $DF, rec_vector
    popl rec_error
    movl tss32 + 32, %eax
    movl %eax, rec_ip
    movl %cr2, %eax
    movl %eax, rec_cr2
    pushl $2
    popfl
    movl rec_resume_sp, %esp
    jmp *rec_resume
