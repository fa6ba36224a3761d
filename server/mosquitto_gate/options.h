/* The gate's options: plugin_opt_NAME in mosquitto.conf, as birthmark_server.broker.mosquitto writes them.
 *
 * An unknown, missing, repeated or unreadable option is refused, and the broker does not start: a gate that guesses
 * what it was told is no gate.
 */
#ifndef BIRTHMARK_GATE_OPTIONS_H
#define BIRTHMARK_GATE_OPTIONS_H

#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_VALUE_MAX 1023U
#define OPTIONS_CONNECTIONS_MAX 1000000U

struct options {
    char trust_domain[OPTIONS_VALUE_MAX + 1];
    char fleet_ca_file[OPTIONS_VALUE_MAX + 1]; /* PEM: whoever one of these signed is a device */
    char infra_ca_file[OPTIONS_VALUE_MAX + 1]; /* PEM: whoever one of these signed may be a control identity */
    char control_eku[OPTIONS_VALUE_MAX + 1];   /* dotted: the extended key usage that makes it one */
    char deny_file[OPTIONS_VALUE_MAX + 1];
    char deny_eku[OPTIONS_VALUE_MAX + 1]; /* dotted: the extended key usage of who may sign it */
    uint32_t max_connections;
    bool app_clients; /* let client ids be ID.APP too, with the rights of ID */
};

enum options_status {
    OPTIONS_OK = 0,
    OPTIONS_UNKNOWN,
    OPTIONS_REPEATED,
    OPTIONS_BAD_VALUE,
    OPTIONS_MISSING,
};

/* Read the options.
 * given [in]   as the broker hands them over
 * count [in]
 * out   [out]  complete only for OPTIONS_OK
 * where [out]  the name of the option at fault: borrowed from `given`, or static
 */
enum options_status options_read(const struct mosquitto_opt *given, int count, struct options *out, const char **where);

const char *options_status_name(enum options_status status);

#endif
