#include "certificate.h"

#include <openssl/x509v3.h>

bool certificate_serial(const X509 *certificate, char out[TEXT_SERIAL_MAX + 1])
{
    static const char digits[] = "0123456789abcdef";
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    const unsigned char *octets = ASN1_STRING_get0_data(serial);
    int length = ASN1_STRING_length(serial);
    size_t written = 0;

    out[0] = '\0';
    if (ASN1_STRING_type(serial) != V_ASN1_INTEGER || length < 1 || length > (int)(TEXT_SERIAL_MAX / 2)) {
        return false;
    }
    for (int i = 0; i < length; i++) {
        if (written > 0 || octets[i] >= 0x10) {
            out[written++] = digits[octets[i] >> 4];
        }
        if (written > 0 || octets[i] > 0) {
            out[written++] = digits[octets[i] & 0x0F];
        }
    }
    out[written] = '\0';
    return written > 0;
}

bool certificate_time(const ASN1_TIME *value, time_t *out)
{
    struct tm parts;

    if (ASN1_TIME_to_tm(value, &parts) != 1) {
        return false;
    }
    *out = timegm(&parts);
    return true;
}

bool certificate_has_purpose(const X509 *certificate, const ASN1_OBJECT *purpose)
{
    EXTENDED_KEY_USAGE *usages = X509_get_ext_d2i(certificate, NID_ext_key_usage, NULL, NULL);
    bool found = false;

    for (int i = 0; i < sk_ASN1_OBJECT_num(usages); i++) {
        found = found || OBJ_cmp(sk_ASN1_OBJECT_value(usages, i), purpose) == 0;
    }
    EXTENDED_KEY_USAGE_free(usages);
    return found;
}
