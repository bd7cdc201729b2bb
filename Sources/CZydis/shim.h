#ifndef TRAPLINE_CZYDIS_SHIM_H
#define TRAPLINE_CZYDIS_SHIM_H
#include <Zydis/Zydis.h>

// Zydis's attribute macros use a cast that Swift's importer does not follow.
static const uint64_t ZYDIS_ATTRIB_HAS_REP_SHIM = ZYDIS_ATTRIB_HAS_REP;
static const uint64_t ZYDIS_ATTRIB_HAS_REPE_SHIM = ZYDIS_ATTRIB_HAS_REPE;
static const uint64_t ZYDIS_ATTRIB_HAS_REPNE_SHIM = ZYDIS_ATTRIB_HAS_REPNE;
static const uint64_t ZYDIS_ATTRIB_HAS_LOCK_SHIM = ZYDIS_ATTRIB_HAS_LOCK;
static const uint32_t ZYDIS_STATUS_NO_MORE_DATA_SHIM = ZYDIS_STATUS_NO_MORE_DATA;
static const uint32_t ZYDIS_STATUS_INSTRUCTION_TOO_LONG_SHIM = ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
#endif
