/*
 * input_jsonl - one JSON object a line, read by yajl.
 */
#ifndef RML_TOOLS_INPUT_JSONL_H
#define RML_TOOLS_INPUT_JSONL_H

struct rml_err;
struct rml_input_jsonl;
struct rml_line;
struct rml_row;

/* 0, or -ENOMEM. The row stays the caller's, and is where records are filled. */
int rml_input_jsonl_open(struct rml_input_jsonl **ret_jsonl, struct rml_row *row,
                         struct rml_err *err);
void rml_input_jsonl_close(struct rml_input_jsonl *jsonl);

/* One line, the row being begun by the caller: 1 when it is a record, 0 when it is blank, -EBADMSG with
 * the complaint in row->err. */
int rml_input_jsonl_line(struct rml_input_jsonl *jsonl, const struct rml_line *line);

#endif
