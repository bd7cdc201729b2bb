// The built-in guest: a little kernel that does a bit of everything a kernel does with privileged and sensitive
// instructions, says how much on the first serial port, and powers off. Booted by multiboot with address fields.
#define BASE 0x100000
#define ADDRESS(label) (BASE + (label - trapline_guest))
#define HEADER_FLAGS 0x10000
#define MULTIBOOT_MAGIC 0x1badb002

// Memory behind the image.
#define PAGE_DIRECTORY 0x200000
#define PAGE_TABLE 0x201000
#define LONG_TABLES 0x202000
#define USER_STACK 0x20a000
#define KERNEL_STACK 0x20c000
#define WINDOW 0x3ff000
#define IMAGE_END 0x210000

#define CODE 0x08
#define DATA 0x10
#define USER_CODE 0x1b
#define USER_DATA 0x23
#define TASK 0x28
#define CODE64 0x30

#define SERIAL 0x3f8
#define PM1_CONTROL 0x604
#define SLEEP_ENABLE 0x2000
#define DEBUG_EXIT 0xf4
#define TICKS 10
#define ROUNDS 1000
#define USER_CALLS 100

        .section .rodata
        .balign 16
        .globl  trapline_guest
        .globl  trapline_guest_end
        .code32
trapline_guest:
        .long   MULTIBOOT_MAGIC, HEADER_FLAGS, 0 - (MULTIBOOT_MAGIC + HEADER_FLAGS)
        .long   BASE, BASE, ADDRESS(trapline_guest_end), IMAGE_END, ADDRESS(start)

        .macro  say text
        movl    $ADDRESS(\text), %esi
        call    print
        .endm

        .macro  report text, counter
        say     \text
        movl    ADDRESS(\counter), %eax
        call    print_number
        .endm

start:
        movl    $KERNEL_STACK, %esp
        lgdt    ADDRESS(gdt_pointer)
        ljmp    $CODE, $ADDRESS(1f)
1:      movw    $DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        call    start_serial
        say     title
        call    start_paging
        call    start_interrupts
        call    count_timer
        call    count_sensitive
        call    count_mappings
        call    run_user
        call    run_long
        report  timer_text, timer_count
        report  sensitive_text, sensitive_count
        report  mapping_text, mapping_count
        report  call_text, call_count
        report  long_text, long_count
        say     done
        movw    $PM1_CONTROL, %dx
        movw    $SLEEP_ENABLE, %ax
        outw    %ax, %dx
        movb    $1, %al
        jmp     give_up

// Ends through the debug exit with the value in AL.
give_up:
        outb    %al, $DEBUG_EXIT
        cli
        hlt

// MARK: Setting up

start_serial:
        movw    $SERIAL + 3, %dx
        movb    $0x80, %al              // DLAB
        outb    %al, %dx
        movw    $SERIAL, %dx
        movb    $1, %al                 // 115,200 baud
        outb    %al, %dx
        incw    %dx
        xorb    %al, %al
        outb    %al, %dx
        movw    $SERIAL + 3, %dx
        movb    $3, %al                 // eight bits, no parity, one stop bit
        outb    %al, %dx
        ret

// Maps the first 4 MB one to one, for user mode too.
start_paging:
        movl    $PAGE_TABLE, %edi
        movl    $7, %eax
1:      movl    %eax, (%edi)
        addl    $4, %edi
        addl    $0x1000, %eax
        cmpl    $0x400000, %eax
        jb      1b
        movl    $PAGE_TABLE + 7, PAGE_DIRECTORY
        movl    $PAGE_DIRECTORY, %eax
        movl    %eax, %cr3
        movl    %cr0, %eax
        orl     $0x80010000, %eax       // PG and WP
        movl    %eax, %cr0
        ret

start_interrupts:
        movl    $ADDRESS(idt), %edi
        movl    $ADDRESS(exception), %eax
        movl    $32, %ecx
1:      call    set_gate
        loop    1b
        movl    $ADDRESS(timer), %eax
        call    set_gate
        movl    $ADDRESS(idt) + 0x80 * 8, %edi
        movl    $ADDRESS(system_call), %eax
        call    set_gate
        movb    $0xee, ADDRESS(idt) + 0x80 * 8 + 5      // from ring 3
        lidt    ADDRESS(idt_pointer)
        movw    $TASK, %ax
        ltr     %ax
        movl    $ADDRESS(pic_setup), %esi
        movl    $10, %ecx
2:      lodsw
        movzbw  %al, %dx
        movb    %ah, %al
        outb    %al, %dx
        loop    2b
        ret

// An interrupt gate to EAX at EDI, which moves on.
set_gate:
        movw    %ax, (%edi)
        movw    $CODE, 2(%edi)
        movw    $0x8e00, 4(%edi)
        rorl    $16, %eax
        movw    %ax, 6(%edi)
        rorl    $16, %eax
        addl    $8, %edi
        ret

// MARK: Work

count_timer:
        sti
1:      hlt
        cmpl    $TICKS, ADDRESS(timer_count)
        jb      1b
        cli
        ret

count_sensitive:
        movl    $ROUNDS, %ecx
1:      pushl   %ecx
        pushfl
        cli
        xorl    %eax, %eax
        cpuid
        rdtsc
        movl    %cr0, %eax
        sgdt    ADDRESS(scratch)
        popfl
        popl    %ecx
        incl    ADDRESS(sensitive_count)
        loop    1b
        ret

// Points the window page at one frame after the other and checks that it shows each.
count_mappings:
        movl    $0x300000, %ebx
1:      movl    %ebx, (%ebx)
        movl    %ebx, %eax
        orl     $3, %eax
        movl    %eax, PAGE_TABLE + (WINDOW >> 12) * 4
        invlpg  WINDOW
        cmpl    %ebx, WINDOW
        movb    $2, %al
        jne     give_up
        incl    ADDRESS(mapping_count)
        addl    $0x1000, %ebx
        cmpl    $0x380000, %ebx
        jb      1b
        ret

// Runs `user` in ring 3; its last system call comes back here.
run_user:
        movl    %esp, ADDRESS(task_stack)
        pushl   $USER_DATA
        pushl   $USER_STACK
        pushfl
        pushl   $USER_CODE
        pushl   $ADDRESS(user)
        movw    $USER_DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        iretl
user_done:
        movw    $DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movl    ADDRESS(task_stack), %esp
        ret

// What reads or shows privileged state in ring 3 without a trap, and system calls.
user:
        movl    $USER_CALLS, %ecx
1:      smsw    %eax
        str     %ax
        sgdt    ADDRESS(scratch)
        pushfl
        popfl
        movl    %cs, %eax
        xorl    %eax, %eax
        int     $0x80
        loop    1b
        movl    $1, %eax
        int     $0x80

// Enters long mode if there is one, works there, and returns in compatibility mode.
run_long:
        movl    $0x80000000, %eax
        cpuid
        cmpl    $0x80000001, %eax
        jb      2f
        movl    $0x80000001, %eax
        cpuid
        btl     $29, %edx
        jnc     2f
        movl    $LONG_TABLES + 0x1003, LONG_TABLES
        movl    $LONG_TABLES + 0x2003, LONG_TABLES + 0x1000
        movl    $0x83, LONG_TABLES + 0x2000
        movl    $0x200083, LONG_TABLES + 0x2008
        movl    %cr0, %eax
        andl    $0x7fffffff, %eax
        movl    %eax, %cr0
        movl    %cr4, %eax
        orl     $0x20, %eax             // PAE
        movl    %eax, %cr4
        movl    $LONG_TABLES, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx       // IA32_EFER
        rdmsr
        orl     $0x100, %eax            // LME
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        lcall   $CODE64, $ADDRESS(work64)
2:      ret

        .code64
work64:
        movl    $ROUNDS, %ecx
        xorl    %r15d, %r15d
1:      swapgs
        swapgs
        movq    %cr3, %rax
        movq    %rax, %cr3
        pushfq
        popfq
        incq    %r15
        loop    1b
        movl    %r15d, ADDRESS(long_count)
        lretl
        .code32

// MARK: Interrupts

timer:
        pushl   %eax
        incl    ADDRESS(timer_count)
        movb    $0x20, %al
        outb    %al, $0x20
        popl    %eax
        iretl

system_call:
        testl   %eax, %eax
        jnz     user_done
        incl    %ss:ADDRESS(call_count)
        iretl

exception:
        say     exception_text
        movb    $3, %al
        jmp     give_up

// MARK: Printing

print:
        lodsb
        testb   %al, %al
        jz      1f
        call    print_character
        jmp     print
1:      ret

print_character:
        movb    %al, %bl
        movw    $SERIAL + 5, %dx
1:      inb     %dx, %al
        testb   $0x20, %al              // transmitter empty
        jz      1b
        movb    %bl, %al
        movw    $SERIAL, %dx
        outb    %al, %dx
        ret

// EAX in decimal and the end of the line.
print_number:
        movl    $10, %ecx
        pushl   $0
1:      xorl    %edx, %edx
        divl    %ecx
        addl    $'0', %edx
        pushl   %edx
        testl   %eax, %eax
        jnz     1b
2:      popl    %eax
        testl   %eax, %eax
        jz      3f
        call    print_character
        jmp     2b
3:      say     line_end
        ret

// MARK: Data

title:          .asciz "Trapline's built-in guest\r\n"
timer_text:     .asciz "timer interrupts           "
sensitive_text: .asciz "rounds of sensitive work   "
mapping_text:   .asciz "page mappings              "
call_text:      .asciz "system calls from ring 3   "
long_text:      .asciz "rounds in long mode        "
done:           .asciz "GUEST-DONE\r\n"
exception_text: .asciz "unexpected exception\r\n"
line_end:       .asciz "\r\n"

// Port and value: both controllers at vectors 0x20 and 0x28, all but the timer masked; the timer at 1 kHz.
pic_setup:
        .byte   0x20, 0x11, 0x21, 0x20, 0x21, 0x04, 0x21, 0x01, 0x21, 0xfe
        .byte   0xa1, 0xff, 0x43, 0x34, 0x40, 0xa9, 0x40, 0x04, 0x20, 0x20

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff, 0x00cf93000000ffff
        .quad   0x00cffb000000ffff, 0x00cff3000000ffff
        .short  103, (ADDRESS(task_state)) & 0xffff
        .byte   (ADDRESS(task_state) >> 16) & 0xff, 0x89, 0, 0
        .quad   0x00af9b000000ffff
gdt_pointer:
        .short  . - gdt - 1
        .long   ADDRESS(gdt)
idt_pointer:
        .short  0x81 * 8 - 1
        .long   ADDRESS(idt)

        .balign 8
timer_count:     .long 0
sensitive_count: .long 0
mapping_count:   .long 0
call_count:      .long 0
long_count:      .long 0
scratch:         .quad 0
task_state:      .long 0
task_stack:      .long KERNEL_STACK, DATA
                 .zero 92
idt:             .zero 0x81 * 8
trapline_guest_end:
        .byte   0
