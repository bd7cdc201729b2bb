// 32-bit protected mode: which exception an instruction raises, where it points, and which of two comes first; #AC.
#include "lib.inc"
START_PROTECTED

#define DIRECTORY 0x20000
#define TABLE1 0x22000
#define PTE(n) TABLE1+4*(n)
#define PAGE(n) (0x400000+0x1000*(n))

main:
    // ---- Faults and traps ------------------------------------------------------------------------------------------------
    xorl %ecx, %ecx
    movl $7, %eax
    movl $9, %edx
    FAULT "DIV by 0", DE, NONE, divl %ecx
    CHECK "DIV by 0 keeps EAX", "%eax", 7
    CHECK "DIV by 0 keeps EDX", "%edx", 9
    movl $9, %ecx
    FAULT "DIV overflow", DE, NONE, divl %ecx
    movl $0x80000000, %eax
    cltd
    movl $-1, %ecx
    FAULT "IDIV overflow", DE, NONE, idivl %ecx
    movl $0x80, %eax
    movb $-1, %cl
    movw $0xff80, %ax
    FAULT "IDIV of bytes overflows", DE, NONE, .byte 0xf6, 0xf9
    movl rec_flags, %eax
    andl $FL_RF, %eax
    CHECK "faults push RF", "%eax", FL_RF
    TRY
    int3
    AT
    EXPECT "INT3", BP
    TRY
    int $3
    AT
    EXPECT "INT 3 (CD 03)", BP
    TRY
    movb $0x7f, %al
    addb $1, %al
    into
    AT
    EXPECT "INTO", OF
    TRY
    int $OF
    AT
    EXPECT "INT 4", OF
    movl $10, 0x700
    movl $20, 0x704
    movl $21, %eax
    FAULT "BOUND above", BR, NONE, bound %eax, 0x700
    movl $9, %eax
    FAULT "BOUND below", BR, NONE, bound %eax, 0x700
    movl $20, %eax
    NOFAULT "BOUND at the upper bound", bound %eax, 0x700
    movl $10, %eax
    NOFAULT "BOUND at the lower bound", bound %eax, 0x700
    SETIDT GP, CS32, software_13, 0x8e
    int $0x0d
1:  CHECK "INT 13 pushes no error code", "%ebx", 1b
    RESETIDT GP

    // ---- Undefined ---------------------------------------------------------------------------------------------------------
    FAULT "UD2", UD, NONE, ud2
    FAULT "UD1", UD, NONE, .byte 0x0f, 0xb9, 0xc0
    FAULT "UD0", UD, NONE, .byte 0x0f, 0xff, 0xc0
    FAULT "0F 04", UD, NONE, .byte 0x0f, 0x04
    FAULT "0F 24", UD, NONE, .byte 0x0f, 0x24, 0xc0
    FAULT "MOV to CS", UD, NONE, .byte 0x8e, 0xc8
    FAULT "MOV to segment 7", UD, NONE, .byte 0x8e, 0xf8
    FAULT "LES with a register", UD, NONE, .byte 0xc4, 0xc0
    FAULT "LDS with a register", UD, NONE, .byte 0xc5, 0xc0
    FAULT "LSS with a register", UD, NONE, .byte 0x0f, 0xb2, 0xc0
    FAULT "LEA with a register", UD, NONE, .byte 0x8d, 0xc0
    FAULT "BOUND with a register", UD, NONE, .byte 0x62, 0xc0
    FAULT "8F /1", UD, NONE, .byte 0x8f, 0xc8
    FAULT "FF /7", UD, NONE, .byte 0xff, 0xf8
    FAULT "FE /7", UD, NONE, .byte 0xfe, 0xf8
    FAULT "C7 /1", UD, NONE, .byte 0xc7, 0xc8, 0, 0, 0, 0
    FAULT "0F BA /3", UD, NONE, .byte 0x0f, 0xba, 0xd8, 1
    FAULT "0F 00 /6", UD, NONE, .byte 0x0f, 0x00, 0xf0
    FAULT "0F C7 /1 with a register", UD, NONE, .byte 0x0f, 0xc7, 0xc8
    FAULT "CR1", UD, NONE, .byte 0x0f, 0x20, 0xc8
    FAULT "CR7", UD, NONE, .byte 0x0f, 0x22, 0xf8
    FAULT "SWAPGS outside 64-bit mode", UD, NONE, .byte 0x0f, 0x01, 0xf8
    FAULT "RDFSBASE outside 64-bit mode", UD, NONE, .byte 0xf3, 0x0f, 0xae, 0xc0
    FAULT "RSM outside SMM", UD, NONE, rsm
    FAULT "VMCALL", UD, NONE, .byte 0x0f, 0x01, 0xc1
    FAULT "XGETBV without OSXSAVE", UD, NONE, .byte 0x0f, 0x01, 0xd0
    .irp prefixed, 0x90, 0x40, 0xc3, 0xf4
    FAULT "LOCK \prefixed", UD, NONE, .byte 0xf0, \prefixed
    .endr
    FAULT "LOCK MOV to memory", UD, NONE, .byte 0xf0, 0xa3, 0, 7, 0, 0
    FAULT "LOCK ADD to a register", UD, NONE, .byte 0xf0, 0x01, 0xc0
    FAULT "LOCK ADD from memory", UD, NONE, .byte 0xf0, 0x03, 0x05, 0, 7, 0, 0
    FAULT "LOCK CMP", UD, NONE, .byte 0xf0, 0x39, 0x05, 0, 7, 0, 0
    FAULT "LOCK CMP imm", UD, NONE, .byte 0xf0, 0x83, 0x3d, 0, 7, 0, 0, 1
    FAULT "LOCK TEST", UD, NONE, .byte 0xf0, 0x85, 0x05, 0, 7, 0, 0
    FAULT "LOCK SHL", UD, NONE, .byte 0xf0, 0xd1, 0x25, 0, 7, 0, 0
    FAULT "LOCK BT", UD, NONE, .byte 0xf0, 0x0f, 0xa3, 0x05, 0, 7, 0, 0
    FAULT "LOCK MOVS", UD, NONE, .byte 0xf0, 0xa5
    NOFAULT "LOCK NOT", .byte 0xf0, 0xf7, 0x15, 0, 7, 0, 0
    NOFAULT "LOCK XCHG", .byte 0xf0, 0x87, 0x05, 0, 7, 0, 0
    NOFAULT "LOCK CMPXCHG8B", .byte 0xf0, 0x0f, 0xc7, 0x0d, 0, 7, 0, 0
    NOFAULT "15 bytes", .byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90
    FAULT "16 bytes", GP, 0, .byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90
    FAULT "15 prefixes, then LOCK MOV", GP, 0, .byte 0xf0,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x89,0xc0

    // ---- Which comes first: paging on, page 1 missing --------------------------------------------------------------------------
    movl $0x87, DIRECTORY
    movl $TABLE1 + 7, DIRECTORY + 4
    movl $TABLE1, %edi
    movl $PAGE(0) + 7, %eax
    movl $1024, %ecx
1:  movl %eax, (%edi)
    addl $4, %edi
    addl $0x1000, %eax
    loop 1b
    movl $0, PTE(1)
    movl $DIRECTORY, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $CR4_PSE | CR4_OSFXSR, %eax
    movl %eax, %cr4
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    FAULT3 "privilege before #PF: LGDT", GP, 0, lgdtl PAGE(1)
    FAULT3 "privilege before #PF: LMSW", GP, 0, lmsw PAGE(1)
    FAULT3 "privilege before #PF: INVLPG", GP, 0, invlpg PAGE(1)
    movl $PAGE(1), %esi
    movl $PAGE(1), %edi
    movl $0x80, %edx
    FAULT3 "privilege before #PF: OUTS", GP, 0, outsb
    FAULT3 "privilege before #PF: INS", GP, 0, insb
    SETDESC 0, 0, 0x3ff, 0x92, 0xc      // 4 MB
    movl $SEL(0), %eax
    movl %eax, %fs
    FAULT "limit before #PF", GP, 0, movl %fs:PAGE(1), %eax
    FAULT "LOCK before #PF", UD, NONE, .byte 0xf0, 0xa3, 0, 0x10, 0x40, 0
    movl $0, %ecx
    FAULT "#PF before DIV by 0", PF, 0, divl PAGE(1)
    movl $0x1ff8, PAGE(0)+0xffc
    FAULT "#PF before selector check", PF, 0, les PAGE(0)+0xffc, %eax
    movl %cr0, %eax
    orl $CR0_TS, %eax
    movl %eax, %cr0
    FAULT "#NM before #PF", NM, NONE, flds PAGE(1)
    FAULT "#UD before #NM", UD, NONE, .byte 0x0f, 0x04
    clts
    FAULT "#PF of an x87 load", PF, 0, flds PAGE(1)
    movb $0x0f, PAGE(0)+0xfff           // an undefined opcode whose second byte is missing
    movl $PAGE(1)-1, %ebx
    TRY
    jmp *%ebx
    EXPECT_IP "#PF of the fetch before #UD", PF, 0, PAGE(1)-1
    movb $0xf0, PAGE(0)+0xfff
    TRY
    jmp *%ebx
    EXPECT_IP "#PF of the fetch before #UD of LOCK", PF, 0, PAGE(1)-1
    SETDESC 0, 0, 0x400, 0x9a, 0xc      // code that ends at the missing page
    movb $0xb8, PAGE(1)-2
    movb $0x90, PAGE(1)-1
    TRY
    ljmp $SEL(0), $PAGE(1)-2
    EXPECT_IP "fetch across: the limit before the page", GP, 0, PAGE(1)-2
    movl $5, 0x700
    movl $1, 0x704
    FAULT "#PF of BOUND", PF, 0, bound %eax, PAGE(1)

    // ---- Alignment check --------------------------------------------------------------------------------------------------------
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    orl $CR0_AM, %eax
    movl %eax, %cr0
    pushl $FL_AC | 2
    popfl
    NOFAULT "no #AC at ring 0", movl 0x701, %eax
    pushl $2
    popfl
    NOFAULT3 "no #AC without EFLAGS.AC", movl 0x701, %eax
    movl $FL_AC | 2, user_flags
    FAULT3 "#AC: word", AC, 0, movw 0x701, %ax
    FAULT3 "#AC: dword", AC, 0, movl 0x702, %eax
    FAULT3 "#AC: store", AC, 0, movl %eax, 0x703
    NOFAULT3 "aligned word", movw 0x702, %ax
    NOFAULT3 "byte", movb 0x703, %al
    NOFAULT3 "aligned dword", movl 0x704, %eax
    FAULT3 "#AC: read-modify-write", AC, 0, incl 0x706
    FAULT3 "#AC: double at 4", AC, 0, fldl 0x704
    NOFAULT3 "double at 8", fldl 0x708
    FAULT3 "#AC: quadword of CMPXCHG8B", AC, 0, cmpxchg8b 0x704
    movl $0x702, %esi
    movl $0x703, %edi
    FAULT3 "#AC: LODSL", AC, 0, lodsl
    FAULT3 "#AC: STOSW", AC, 0, stosw
    movl $RING3_TOP - 2, user_sp
    FAULT3 "#AC: PUSH", AC, 0, pushl %eax
    FAULT3 "#AC: POP", AC, 0, popl %eax
    NOFAULT3 "PUSH of a word", pushw %ax
    movl $RING3_TOP, user_sp
    SETDESC 0, 0, 0x6ff, 0xf2, 4
    movl $SEL(0) + 3, %eax
    movl %eax, %fs
    FAULT3 "limit before #AC", GP, 0, movw %fs:0x701, %ax
    movl %cr0, %eax
    andl $~CR0_AM, %eax
    movl %eax, %cr0
    NOFAULT3 "no #AC without CR0.AM", movl 0x701, %eax
    movl $2, user_flags
    FINISH
software_13:
    movl (%esp), %ebx
    iretl
