import type { Reporter, TestModule } from 'vitest/node';

/** Names every failure and prints `N passed, N failed, N skipped` alone on the last line. */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly { readonly message: string }[]): void {
    const count = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    const failures = errors.map(({ message }) => `FAILED outside of tests: ${message}`);
    for (const module of modules) {
      failures.push(...module.errors().map(({ message }) => `FAILED ${module.relativeModuleId}: ${message}`));
      for (const test of module.children.allTests()) {
        const { state, errors: causes = [] } = test.result();
        count[state]++;
        if (state === 'failed') {
          failures.push(`FAILED ${module.relativeModuleId} > ${test.fullName}: ${causes[0]?.message ?? ''}`);
        }
      }
    }
    process.on('exit', () => {
      for (const failure of failures) console.log(failure.slice(0, 600));
      console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
    });
  }
}
