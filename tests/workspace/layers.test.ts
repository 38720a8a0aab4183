import { cruise, type ICruiseResult } from 'dependency-cruiser';
import extractConfig from 'dependency-cruiser/config-utl/extract-depcruise-config';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { packages, root } from './repository.js';

const planted = [
  'safetensors',
  'gguf',
  'core',
  'conformance',
  'lora',
  'sora',
  'models',
  'onnx',
  'layers',
  'tasks',
  'engine',
  'pipelines',
  'cli',
  'bench',
  'peftjs',
];

/** Files that each break a rule: [file, its import, the rule that must report it]. */
const offences = [
  ['packages/safetensors/src/up.ts', '@peftjs/core', 'safetensors-imports-downwards'],
  ['packages/gguf/src/up.ts', '@peftjs/core', 'gguf-imports-downwards'],
  ['packages/core/src/up.ts', '@peftjs/engine', 'core-imports-downwards'],
  ['packages/engine/src/names-method.ts', '@peftjs/sora', 'methods-stand-alone'],
  ['packages/lora/src/up.ts', '@peftjs/models', 'methods-import-downwards'],
  ['packages/lora/src/tested.ts', '@peftjs/conformance', 'conformance-is-for-tests'],
  ['packages/lora/src/sideways.ts', '@peftjs/sora', 'methods-stand-alone'],
  ['packages/lora/src/sideways-by-path.ts', '../../sora/src/index.js', 'methods-stand-alone'],
  ['packages/models/src/up.ts', '@peftjs/tasks', 'models-imports-downwards'],
  ['packages/onnx/src/up.ts', '@peftjs/engine', 'onnx-imports-downwards'],
  ['packages/layers/src/up.ts', '@peftjs/tasks', 'layers-imports-downwards'],
  ['packages/layers/src/names-method.ts', '@peftjs/lora', 'methods-stand-alone'],
  ['packages/tasks/src/up.ts', '@peftjs/engine', 'tasks-imports-downwards'],
  ['packages/tasks/src/down.ts', '@peftjs/models', 'tasks-know-no-model'],
  ['packages/engine/src/up.ts', '@peftjs/bench', 'engine-imports-downwards'],
  ['packages/cli/src/names-method.ts', '@peftjs/lora', 'methods-stand-alone'],
  ['packages/cli/src/up.ts', '@peftjs/bench', 'cli-imports-downwards'],
  ['packages/pipelines/src/up.ts', '@peftjs/bench', 'pipelines-imports-downwards'],
  ['packages/pipelines/src/names-method.ts', '@peftjs/lora', 'methods-stand-alone'],
  ['packages/bench/src/up.ts', 'peftjs', 'bench-imports-downwards'],
  ['packages/peftjs/src/command.ts', '@peftjs/cli', 'peftjs-runs-no-command'],
  ['packages/bench/src/outside.ts', '../../../tests/helper.js', 'packages-stand-without-the-repository'],
  ['packages/bench/src/lost.ts', './nowhere.js', 'resolvable'],
  ['packages/bench/src/report/later.ts', '../commands/plan.js', 'bench-report-follows-the-data'],
  ['packages/cli/src/results/later.ts', '../commands/flags.js', 'cli-results-follows-the-data'],
  ['packages/core/src/cycle-a.ts', './cycle-b.js', 'no-cycles'],
  ['packages/core/src/type-a.ts', './type-b.js', 'no-cycles'],
] as const;

/** Imports that the layers allow. */
const innocent: Record<string, string> = {
  'packages/bench/src/commands/plan.ts': `import '@peftjs/cli';`,
  'packages/cli/src/commands/flags.ts': `import '../results/files.js';`,
  'packages/cli/src/results/files.ts': `export const files = 1;`,
  'tests/helper.ts': `import '@peftjs/bench'; export const helper = 1;`,
  'packages/core/src/cycle-b.ts': `import './cycle-a.js'; export const b = 1;`,
  'packages/core/src/type-b.ts': `import type { a } from './type-a.js'; export type B = typeof a;`,
  'packages/sora/src/down.ts': `import '@peftjs/core'; import '@peftjs/safetensors';`,
  'packages/sora/test/own.test.ts': `import '@peftjs/sora'; import '@peftjs/conformance';`,
  'packages/core/src/own.test.ts': `import '@peftjs/conformance';`,
  'packages/conformance/src/down.ts': `import '@peftjs/core';`,
  'packages/peftjs/src/down.ts': `import '@peftjs/core'; import '@peftjs/lora'; import '@peftjs/sora'; import '@peftjs/pipelines';`,
  'packages/bench/src/down.ts': `import '@peftjs/engine'; import '@peftjs/models'; import '@peftjs/tasks';`,
};

const folder = temporaryFolder();

async function plant(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true });
  await writeFile(join(folder, path), text);
}

async function violations(): Promise<string[]> {
  const configuration = await extractConfig(join(root, '.dependency-cruiser.cjs'));
  const { output } = await cruise(['packages', 'tests'], {
    ...configuration.options,
    ruleSet: { forbidden: configuration.forbidden ?? [] },
    baseDir: folder,
    validate: true,
  });
  return (output as ICruiseResult).summary.violations.map(({ rule, from }) => `${from} ${rule.name}`).sort();
}

beforeAll(async () => {
  await mkdir(join(folder, 'node_modules/@peftjs'), { recursive: true });
  for (const name of planted) {
    const exports = { '.': { '@peftjs/source': './src/index.ts', default: './dist/index.js' } };
    const full = name === 'peftjs' ? name : `@peftjs/${name}`;
    await plant(`packages/${name}/package.json`, JSON.stringify({ name: full, type: 'module', exports }));
    await plant(`packages/${name}/src/index.ts`, 'export const here = 1;');
    await symlink(join(folder, 'packages', name), join(folder, 'node_modules', full));
  }
  for (const [path, text] of Object.entries(innocent)) await plant(path, text);
});

describe('the layers', () => {
  it('report each offence, and nothing else', async () => {
    for (const [path, imported] of offences) await plant(path, `import '${imported}'; export const a = 1;`);
    expect(await violations()).toEqual(offences.map(([path, , rule]) => `${path} ${rule}`).sort());
  });

  it('have a place for every package: its own, or that of the methods', () => {
    const named = [
      'safetensors',
      'gguf',
      'core',
      'conformance',
      'models',
      'onnx',
      'layers',
      'tasks',
      'engine',
      'pipelines',
      'cli',
      'bench',
      'peftjs',
      'create-peftjs',
    ];
    const rest = packages.filter(({ folder: name }) => !named.includes(name));
    expect(rest.filter(({ manifest }) => !manifest.peft?.methods)).toEqual([]);
  });
});
