/*
 * about - figures for people: as many digits as one wants to read.
 */
#ifndef RML_TOOLS_ABOUT_H
#define RML_TOOLS_ABOUT_H

#include <stdint.h>

/* "0s", "850ns", "1.2us", "340us", "2.5ms", "250ms", "1.25s", "12.3s", "3m 5s", "2h 7m", "5d 3h"; negative ones with a sign. */
void rml_about_duration(int64_t ns, char text[32]);

/* "0", "0.3", "1234" */
void rml_about_rate(double per_second, char text[32]);

#endif
