"""What `ringmill test` promises."""
import harness

PIPELINE = """
version: 1
pipeline: t
schema: {call: {ts: time_ns, model: str16, status: u16, latency_ms: f32}}
sources: {calls: {schema: call, event_time: ts, out_of_order: 200ms}}
stages:
  ok: {from: calls, filter: status != 0}
  per_second:
    from: ok
    key: model
    window: {type: tumbling, size: 1s, late: 2s}
    aggregate: {calls: count(), errors: count_if(status == 429), ms: avg(latency_ms)}
tests:
"""


class Tests(harness.Scenario):
    def run_tests(self, tests, want=0):
        return self.ringmill("test", self.write("t.yaml", PIPELINE + tests), want=want).stdout

    def test_what_comes_is_compared_on_the_fields_that_are_named_in_any_order(self):
        said = self.run_tests("""
  - name: a 429 counts as an error
    feed: {calls: [{ts: 0ms, model: a, status: 429}, {ts: 1ms, model: b, status: 200},
                   {ts: 2ms, model: b, status: 0}]}
    advance: 5s
    expect: {per_second: [{model: b, calls: 1}, {window: [0s, 1s], model: a, errors: 1}],
             per_second.late: []}
  - name: a row that says little leaves the row that another one needs
    feed: {calls: [{ts: 0ms, model: a, status: 1}, {ts: 1ms, model: b, status: 1}]}
    expect: {per_second: [{calls: 1}, {model: a}]}
""")
        self.assertTrue(said.endswith("2 passed, 0 failed\n"), said)

    def test_a_late_record_corrects_a_window_that_fired(self):
        self.run_tests("""
  - name: correction
    feed: {calls: [{ts: 100ms, model: a, status: 1, latency_ms: 1},
                   {ts: 1300ms, model: a, status: 1},
                   {ts: 200ms, model: a, status: 1, latency_ms: 2},
                   {ts: 9s, model: a, status: 1}, {ts: 300ms, model: a, status: 7}]}
    advance: 9500ms
    expect:
      per_second: [{window: [0s, 1s], revision: 0, calls: 1},
                   {window: [0s, 1s], revision: 1, calls: 2, ms: 1.5},
                   {window: [1s, 2s], calls: 1}]
      per_second.late: [{ts: 300ms, status: 7}]
""")

    def test_without_advance_the_input_comes_to_its_end(self):
        self.run_tests("""
  - name: end
    feed: {calls: [{ts: 0ms, model: a, status: 1}]}
    expect: {per_second: [{calls: 1}]}
  - name: the clock stands still
    feed: {calls: [{ts: 0ms, model: a, status: 1}]}
    advance: 1100ms
    expect: {per_second: []}
""")

    def test_missing_and_surplus_rows_fail_and_are_shown_with_their_lines(self):
        said = self.run_tests("""
  - name: wrong
    feed: {calls: [{ts: 0ms, model: a, status: 1}]}
    expect:
      per_second:
        - {model: a, calls: 2}
  - name: surplus
    feed: {calls: [{ts: 0ms, model: a, status: 1}]}
    expect: {per_second: []}
""", want=1)
        self.assertIn("FAIL  wrong", said)
        self.assertIn('line 19: {model: "a", calls: 2}', said)
        self.assertIn('{window: [0s, 1s], model: "a", revision: 0, calls: 1, errors: 0, ms: 0}',
                      said)
        self.assertIn("surplus", said)
        self.assertTrue(said.endswith("0 passed, 2 failed\n"), said)

    def test_a_value_that_does_not_fit_is_named_with_its_place(self):
        file = self.write("t.yaml", PIPELINE + """
  - name: bad
    feed: {calls: [{ts: 0ms, model: a, status: 70000}]}
    expect: {per_second: []}
""")
        said = self.ringmill("test", file, want=78).stderr
        self.assertIn("t.yaml:16:", said)
        self.assertIn("status: 70000 does not fit", said)

    def test_the_example_of_the_documents_passes_its_own_tests(self):
        said = self.ringmill("test", harness.SOURCE / "docs/examples/llm.yaml").stdout
        self.assertTrue(said.endswith("2 passed, 0 failed\n"), said)


if __name__ == "__main__":
    harness.main()
