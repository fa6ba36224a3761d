/* Any topic is judged, and whatever a device is allowed lies below its own branch. */
#include "policy.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum policy_access access;
    enum policy_verdict verdict;
    char *topic;

    if (size < 1) {
        return 0;
    }
    access = (enum policy_access)(POLICY_READ + data[0] % 3);
    topic = malloc(size); /* exactly as large as it must be, so that a read too far is seen */
    require(topic != NULL);
    memcpy(topic, data + 1, size - 1);
    topic[size - 1] = '\0';
    verdict = policy_check(POLICY_DEVICE, "dev-1", access, topic);
    if (verdict == POLICY_ALLOWED) {
        const char *branch = access == POLICY_WRITE ? "devices/dev-1/up/" : "devices/dev-1/down/";

        require(strncmp(topic, branch, strlen(branch)) == 0);
    }
    verdict = policy_check(POLICY_CONTROL, "srv-control", access, topic);
    if (verdict == POLICY_ALLOWED && topic[0] != '$') {
        require(strncmp(topic, "devices/", 8) == 0);
        require(strstr(topic, access == POLICY_WRITE ? "/down/" : "/up/") != NULL);
    }
    free(topic);
    return 0;
}
