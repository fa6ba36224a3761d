/* SMP group 0, "OS": echo (0), reset (5), MCUmgr parameters (6).
 * Source: Zephyr, "MCUmgr: default / OS management group". */
#ifndef BIRTHMARK_OS_GROUP_H
#define BIRTHMARK_OS_GROUP_H

#include "smp.h"

/* reset: set by the command, for who runs the server: answer first, then reset. */
struct os_group {
    bool reset;
};

struct smp_group os_group(struct os_group *group);

#endif
