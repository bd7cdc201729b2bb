// A multiboot 1 kernel: the state at entry and what the boot information says.
// Run: --append one=1,two
#include "lib.inc"

#define MAGIC 0x1badb002
#ifdef ADDRESS_FIELDS
#define FLAGS 0x10003                   /* and load addresses in the header */
#else
#define FLAGS 3                         /* modules on page boundaries, memory information */
#endif
#define LOW_COPY 0x200000               /* what was below 64 KB, where loaders like to put the boot information */
#define STATE 0x210000

.section .multiboot, "ax"
BITS32
    .balign 4
multiboot_header:
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)
#ifdef ADDRESS_FIELDS
    .long multiboot_header, multiboot_header, 0, 0x130000, multiboot_entry
#endif
.globl multiboot_entry
multiboot_entry:
    movl %eax, STATE
    movl %ebx, STATE + 4
    movl %cr0, %eax
    movl %eax, STATE + 8
    movl 0xfffffffc, %ecx               // the segments reach 4 GB
    movl %es:0xfffffffc, %ecx
    movl %ss:0xfffffffc, %ecx
    movl $STATE + 0x1000, %esp
    pushfl
    popl STATE + 12
    movl zeroed_first, %eax
    orl zeroed_last, %eax
#ifdef ADDRESS_FIELDS
    orl 0x12fffc, %eax                  // up to bss_end_addr
#endif
    movl %eax, STATE + 16
    cld
    xorl %esi, %esi
    movl $LOW_COPY, %edi
    movl $0x4000, %ecx
    rep movsl
    movl $0x110000, %esi
    movl $0x1000, %edi
    movl $image_words, %ecx
    rep movsl
    // To real mode, where a guest starts.
    lgdtl gdt_pointer
    ljmp $CS16, $1f
    .pushsection .text
BITS16
1:  movw $DS16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    movl %cr0, %eax
    andb $~CR0_PE, %al
    movl %eax, %cr0
    lidtl real_idt_pointer
    ljmp $0, $start
    .popsection
.section .zeroed, "aw", @nobits
zeroed_first: .skip 0x2000
zeroed_last: .skip 4
.text

START_PROTECTED

// \to = the pointer \from of the boot information, which may lie in the memory that was copied away.
.macro POINTER from, to
    movl \from, \to
    cmpl $0x10000, \to
    jae 83f
    addl $LOW_COPY, \to
83:
.endm

main:
    CHECK "EAX", "0x210000", 0x2badb002
    movl 0x210008, %eax
    andl $CR0_PE | CR0_PG, %eax
    CHECK "CR0: PE, no PG", "%eax", CR0_PE
    movl 0x21000c, %eax
    andl $FL_IF | FL_VM, %eax
    CHECK "EFLAGS: IF and VM clear", "%eax", 0
    CHECK "memory behind the file's contents is zero", "0x210010", 0
    movl $0x11111111, 0x200000-4
    movl $0x22222222, 0x100000-4
    CHECK "A20 is on", "0x1ffffc", 0x11111111
    POINTER 0x210004, %ebx
    movl (%ebx), %eax
    andl $0x45, %eax
    CHECK "flags: memory, command line, memory map", "%eax", 0x45
    movl 4(%ebx), %eax
    subl $512, %eax
    cmpl $128, %eax
    setbe %al
    CHECKB "lower memory is 512 to 640 KB", "%al", 1
    cmpl $15 * 1024, 8(%ebx)
    setae %al
    CHECKB "upper memory is 15 MB or more", "%al", 1
    // The command line ends with what was given.
    POINTER 16(%ebx), %edi
    xorb %al, %al
    movl $4096, %ecx
    repne scasb
    leal -10(%edi), %esi
    movl $command_line, %edi
    movl $10, %ecx
    repe cmpsb
    sete %al
    CHECKB "command line", "%al", 1
    // The memory map has 1 MB as RAM, and all entries are well-formed.
    POINTER 48(%ebx), %esi
    movl 44(%ebx), %edx
    xorl %ecx, %ecx                     // bytes of RAM below 4 GB, in KB
    xorl %edi, %edi                     // RAM at 1 MB
1:  cmpl $20, %edx
    jl 3f
    cmpl $1, 20(%esi)
    jne 2f
    cmpl $0, 8(%esi)
    jne 2f
    movl 12(%esi), %eax
    shrl $10, %eax
    addl %eax, %ecx
    cmpl $0x100000, 4(%esi)
    jne 2f
    incl %edi
2:  movl (%esi), %eax
    addl $4, %eax
    addl %eax, %esi
    subl %eax, %edx
    jmp 1b
3:  CHECK "memory map: ends with its last entry", "%edx", 0
    CHECK "memory map: RAM at 1 MB", "%edi", 1
    cmpl 8(%ebx), %ecx
    setae %al
    CHECKB "memory map: no less than the upper memory", "%al", 1
    testl $8, (%ebx)
    jz 4f
    cmpl $0, 20(%ebx)
    je 4f
    POINTER 24(%ebx), %esi
    movl (%esi), %eax
    andl $0xfff, %eax
    CHECK "module on a page boundary", "%eax", 0
    movl 4(%esi), %eax
    cmpl %eax, (%esi)
    setb %al
    CHECKB "module has contents", "%al", 1
4:  FAULT "exceptions work", UD, NONE, ud2
    FINISH
    .data
command_line: .asciz "one=1,two"
