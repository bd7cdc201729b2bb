// A multiboot 1 kernel that is no ELF file: its header says where it goes.
// Run: --append one=1,two
#define ADDRESS_FIELDS
#include "multiboot.S"
