/* Holds the policy to the table that the Python implementation passes too: ROLE ID ACCESS VERDICT TOPIC, one a line. */
#include "policy.h"

#include "check.h"

static enum policy_access access_of(const char *name)
{
    if (strcmp(name, "read") == 0) {
        return POLICY_READ;
    }
    return strcmp(name, "write") == 0 ? POLICY_WRITE : POLICY_SUBSCRIBE;
}

/* Return how many lines were checked. */
static int check_table(FILE *table)
{
    char line[1024];
    int checked = 0;

    while (fgets(line, sizeof line, table) != NULL) {
        char role[16];
        char id[80];
        char access[16];
        char verdict[32];
        int topic = 0;

        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#' || line[0] == '\0') {
            continue;
        }
        CHECK(sscanf(line, "%15s %79s %15s %31s%n", role, id, access, verdict, &topic) == 4);
        CHECK(line[topic] == ' ');
        CHECK_TEXT(policy_verdict_name(policy_check(strcmp(role, "control") == 0 ? POLICY_CONTROL : POLICY_DEVICE, id,
                                                    access_of(access), line + topic + 1)),
                   verdict);
        checked++;
    }
    return checked;
}

int main(int argc, char **argv)
{
    FILE *table = argc == 2 ? fopen(argv[1], "r") : NULL;

    CHECK(table != NULL);
    printf("ok  %d lines of %s\n", check_table(table), argv[1]);
    fclose(table);
    return 0;
}
