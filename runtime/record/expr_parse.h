/*
 * expr_parse - text to typed tree, by recursive descent, one function per line of the grammar.
 */
#ifndef RML_RECORD_EXPR_PARSE_H
#define RML_RECORD_EXPR_PARSE_H

#include "runtime/record/expr_tree.h"

/*
 * Parse into `tree`, whose frame and error are set; its array of nodes is allocated here and freed
 * by the caller, also after an error. Returns 0 with the root's index; -EINVAL with the error
 * filled; -ENOMEM.
 */
int rml_expr_parse(struct rml_expr_tree *tree, const char *text, size_t length,
                   const uint64_t *visible, uint32_t *ret_root);

#endif
