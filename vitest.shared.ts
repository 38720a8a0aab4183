import { defineConfig } from 'vitest/config';

// Tests stand where a user stands, in a terminal: what npm tells the scripts that it starts is not for the npm that they start.
for (const name of Object.keys(process.env)) {
  if (name.startsWith('npm_')) Reflect.deleteProperty(process.env, name);
}

const conditions = ['@peftjs/source'];

/**
 * Every package's tests run against the sources of its siblings: no build comes first. Files share the processes that run them, and with
 * them what takes long to import: a test leaves no trace behind, in the environment or in TensorFlow.js.
 */
export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['**/*.test.ts'],
    isolate: false,
    execArgv: ['--max-semi-space-size=64'], // what a step leaves behind is collected less often: a tenth less work
    env: { PEFTJS_COMMAND: 'peft-bench' }, // the program with every command
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
