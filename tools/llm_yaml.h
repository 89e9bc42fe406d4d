/*
 * llm_yaml - docs/examples/llm.yaml as it was when this was built: the pipeline of `ringmill demo`.
 */
#ifndef RML_TOOLS_LLM_YAML_H
#define RML_TOOLS_LLM_YAML_H

#include <stddef.h>

extern const char rml_llm_yaml[];
extern const size_t rml_llm_yaml_length;

#endif
