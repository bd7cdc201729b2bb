// A plugin of QEMU's translator, loaded by counts: how often every sensitive instruction of a guest was executed, by
// address. What an instruction is comes from QEMU's disassembler, so that nothing here shares code or tables with what
// is to be checked. Writes lines of an address, a kind by its name in EventKind, and a count to the file given as out=.
// An instruction that faults is counted, and each element of a REP INS or OUTS.
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What is used of QEMU's plugin interface, version 1 (docs/devel/tcg-plugins.rst there).
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t qemu_plugin_id_t;
enum { QEMU_PLUGIN_INLINE_ADD_U64 };
extern void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

// Mnemonics without the letter of their size, and what they count as.
static const char *const kinds[][2] = {
    {"cli", "cli"}, {"sti", "sti"}, {"pushf", "pushf"}, {"popf", "popf"}, {"iret", "iret"}, {"lret", "farReturn"},
    {"ljmp", "farJump"}, {"lcall", "farCall"}, {"int", "interruptInstruction"}, {"int1", "interruptInstruction"},
    {"int3", "interruptInstruction"}, {"into", "interruptInstruction"}, {"syscall", "syscall"}, {"sysret", "sysret"},
    {"sysenter", "sysenter"}, {"sysexit", "sysexit"}, {"swapgs", "swapgs"}, {"clts", "clts"}, {"lmsw", "lmsw"},
    {"smsw", "smsw"}, {"lgdt", "lgdt"}, {"lidt", "lidt"}, {"lldt", "lldt"}, {"ltr", "ltr"}, {"sgdt", "sgdt"},
    {"sidt", "sidt"}, {"sldt", "sldt"}, {"str", "str"}, {"lar", "lar"}, {"lsl", "lsl"}, {"verr", "verr"},
    {"verw", "verw"}, {"arpl", "arpl"}, {"invlpg", "invlpg"}, {"invd", "invd"}, {"wbinvd", "wbinvd"},
    {"rdmsr", "rdmsr"}, {"wrmsr", "wrmsr"}, {"rdtsc", "rdtsc"}, {"rdtscp", "rdtscp"}, {"rdpmc", "rdpmc"},
    {"cpuid", "cpuid"}, {"hlt", "hlt"}, {"pause", "pause"}, {"in", "portIn"}, {"ins", "portIn"}, {"out", "portOut"},
    {"outs", "portOut"}, {"rsm", "rsm"}, {"monitor", "monitor"}, {"mwait", "mwait"}, {"xgetbv", "xgetbv"},
    {"xsetbv", "xsetbv"}, {"lds", "segmentLoad"}, {"les", "segmentLoad"}, {"lfs", "segmentLoad"},
    {"lgs", "segmentLoad"}, {"lss", "segmentLoad"},
};

static bool is_mnemonic(const char *word, const char *name) {
    size_t length = strlen(name);
    if (strncmp(word, name, length)) return false;
    word += length;
    return !*word || (strchr("bwlq", *word) && !word[1]);
}

static bool is_segment(const char *operand) {
    return operand[0] == '%' && strchr("cdefgs", operand[1]) && operand[2] == 's' && !operand[3];
}

// The kind of a move, push or pop by its operands, the source first.
static const char *move_kind(const char *mnemonic, char *operands) {
    char *comma = strrchr(operands, ',');
    const char *source = operands, *target = comma ? comma + 1 + strspn(comma + 1, " ") : operands;
    if (!comma) {
        if (!is_segment(operands)) return NULL;
        return is_mnemonic(mnemonic, "push") ? "segmentStore" : is_mnemonic(mnemonic, "pop") ? "segmentLoad" : NULL;
    }
    if (!is_mnemonic(mnemonic, "mov")) return NULL;
    *comma = 0;
    if (is_segment(source)) return "segmentStore";
    if (is_segment(target)) return "segmentLoad";
    if (!strncmp(source, "%cr", 3)) return "readControl";
    if (!strncmp(target, "%cr", 3)) return "writeControl";
    if (!strncmp(source, "%db", 3) || !strncmp(source, "%dr", 3)) return "readDebug";
    return !strncmp(target, "%db", 3) || !strncmp(target, "%dr", 3) ? "writeDebug" : NULL;
}

static const char *kind_of(char *text) {
    char *operands = "", *space;
    while ((space = strchr(text, ' '))) {
        *space = 0;
        operands = space + 1;
        if (strncmp(text, "rep", 3) && strcmp(text, "lock")) break;
        text = operands;
        operands = "";
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (is_mnemonic(text, kinds[i][0])) return kinds[i][1];
    return *operands ? move_kind(text, operands) : NULL;
}

// One for each instruction that was met; found again when its block is translated again.
struct count {
    uint64_t address, executed;
    const char *kind;
    struct count *next;
};
enum { BUCKETS = 1 << 16 };
static struct count *counts[BUCKETS];
static FILE *output;

static struct count *count_of(uint64_t address, const char *kind) {
    struct count **bucket = &counts[(address * UINT64_C(0x9E3779B97F4A7C15)) >> 48], *count;
    for (count = *bucket; count && (count->address != address || count->kind != kind);) count = count->next;
    if (!count && (count = calloc(1, sizeof *count))) {
        *count = (struct count){address, 0, kind, *bucket};
        *bucket = count;
    }
    if (!count) abort();
    return count;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        char *text = qemu_plugin_insn_disas(instruction);
        const char *kind = text ? kind_of(text) : NULL;
        free(text);
        if (!kind) continue;
        struct count *count = count_of(qemu_plugin_insn_vaddr(instruction), kind);
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, QEMU_PLUGIN_INLINE_ADD_U64, &count->executed, 1);
    }
}

static void ended(qemu_plugin_id_t id, void *unused) {
    for (int i = 0; i < BUCKETS; i++)
        for (struct count *count = counts[i]; count; count = count->next)
            if (count->executed)
                fprintf(output, "%016" PRIx64 " %s %" PRIu64 "\n", count->address, count->kind, count->executed);
    if (fclose(output)) abort();
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    if (argc != 1 || strncmp(argv[0], "out=", 4) || !(output = fopen(argv[0] + 4, "w"))) {
        fprintf(stderr, "count-instructions: out= must name a file that can be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
