#include "runtime/record/order.h"

#include <string.h>

#include "runtime/base/check.h"

static bool is_signed(enum rml_type type)
{
    return type == RML_I8 || type == RML_I16 || type == RML_I32 || type == RML_I64
           || type == RML_TIME;
}

uint32_t rml_order_bytes_max(enum rml_type type)
{
    const struct rml_type_info *info = &rml_type_info[type];
    return info->bytes + (info->kind == RML_KIND_STR);
}

static uint32_t put_number(enum rml_type type, const unsigned char *at, unsigned char *to)
{
    uint32_t bytes = rml_type_info[type].bytes;
    unsigned char turned = is_signed(type) ? 0x80 : 0;
    for (uint32_t i = 0; i < bytes; i++, turned = 0)
        to[i] = at[bytes - 1 - i] ^ turned;  // little-endian: checked by runtime/lane/route.h
    return bytes;
}

static uint32_t take_number(enum rml_type type, const unsigned char *from, unsigned char *at)
{
    uint32_t bytes = rml_type_info[type].bytes;
    unsigned char turned = is_signed(type) ? 0x80 : 0;
    for (uint32_t i = 0; i < bytes; i++, turned = 0)
        at[bytes - 1 - i] = from[i] ^ turned;
    return bytes;
}

uint32_t rml_order_put(const struct rml_field *field, const void *record, unsigned char *to)
{
    const struct rml_type_info *info = &rml_type_info[field->type];
    const unsigned char *at = (const unsigned char *)record + field->offset;
    switch (info->kind) {
    case RML_KIND_INT:
    case RML_KIND_UINT:
        return put_number(field->type, at, to);
    case RML_KIND_BOOL:
        to[0] = *at != 0;
        return 1;
    case RML_KIND_STR: {
        uint32_t length = (uint32_t)strnlen((const char *)at, info->bytes);
        memcpy(to, at, length);
        to[length] = '\0';
        return length + 1;
    }
    case RML_KIND_FLOAT:
    case RML_KINDS:
        break;
    }
    RML_UNREACHABLE("a float is in no key");
}

uint32_t rml_order_take(const struct rml_field *field, const unsigned char *from, uint32_t bytes,
                        void *record)
{
    const struct rml_type_info *info = &rml_type_info[field->type];
    unsigned char *at = (unsigned char *)record + field->offset;
    if (info->kind == RML_KIND_STR) {
        uint32_t length = (uint32_t)strnlen((const char *)from, bytes);
        if (length == bytes || length > info->bytes)
            return 0;
        memset(at, 0, info->bytes);
        memcpy(at, from, length);
        return length + 1;
    }
    RML_CHECK(info->kind != RML_KIND_FLOAT);
    if (bytes < info->bytes || (info->kind == RML_KIND_BOOL && from[0] > 1))
        return 0;
    if (info->kind != RML_KIND_BOOL)
        return take_number(field->type, from, at);
    *at = from[0];
    return 1;
}

void rml_order_put_time(int64_t time, unsigned char to[8])
{
    unsigned char bytes[sizeof time];
    memcpy(bytes, &time, sizeof time);
    put_number(RML_TIME, bytes, to);
}

int64_t rml_order_take_time(const unsigned char from[8])
{
    int64_t time;
    unsigned char bytes[sizeof time];
    take_number(RML_TIME, from, bytes);
    memcpy(&time, bytes, sizeof time);
    return time;
}
