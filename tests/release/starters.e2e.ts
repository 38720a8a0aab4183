// The starters of create-peftjs, from tarballs in empty folders.
import { execFile, spawn } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { arch, platform } from 'node:process';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { npmInstall, packPackages, tarballsOf, type PackedPackage } from '../../tools/release/packed.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { inChromium, openBrowser, visit, withoutChromium, type Visited } from '../docs/browser.js';
import { originOf, serve } from '../docs/serve.js';
import { missing, skipped } from './registry.js';

const run = promisify(execFile);
const QUESTION = 'The screen is black since this morning.';

const work = temporaryFolder();
let packed: readonly PackedPackage[] = [];
beforeAll(async () => {
  if (missing !== undefined) return;
  packed = await packPackages(work);
  await npmInstall(work, tarballsOf(packed, ['create-peftjs']));
});

/** Writes a starter as `npm create peftjs` does, and installs it. */
async function started(template: string): Promise<string> {
  await run(join(work, 'node_modules/.bin/create-peftjs'), [template, '--template', template], { cwd: work });
  const project = join(work, template);
  await npmInstall(project, tarballsOf(packed, ['peftjs']));
  return project;
}

/** Shortens the training in the page of a starter. */
async function trainsOnly(epochs: number, project: string): Promise<void> {
  const worker = join(project, 'page/worker.js');
  const text = await readFile(worker, 'utf8');
  expect(text).toContain('const EPOCHS = 12;');
  await writeFile(worker, text.replace('const EPOCHS = 12;', `const EPOCHS = ${epochs};`));
}

async function said(project: string, program: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(program, args, { cwd: project });
  return stdout;
}

/** Starts a server of a project, and returns its address once it says so. */
async function served(project: string, program: string, ...args: string[]): Promise<string> {
  // With CI set, Vite would colour the port.
  const child = spawn(program, args, { cwd: project, env: { ...process.env, PORT: '0', NO_COLOR: '1' } });
  onTestFinished(() => void child.kill());
  return new Promise((resolve, reject) => {
    let output = '';
    const note = (chunk: Buffer): void => {
      output += chunk.toString();
      const [address] = /http:\/\/localhost:\d+/.exec(output) ?? [];
      if (address !== undefined) resolve(address);
    };
    child.stdout.on('data', note);
    child.stderr.on('data', note);
    child.on('exit', () => reject(new Error(output)));
  });
}

async function opened(address: string): Promise<Visited> {
  const browser = await openBrowser();
  onTestFinished(() => browser.close());
  return visit(browser, address);
}

/** Waits until an element of a page has a text. */
async function shows(page: Page, element: string, text: string): Promise<void> {
  await page.locator(element, { hasText: text }).waitFor({ timeout: 120_000 });
}

describe.skipIf(missing !== undefined)(`the starter${skipped}`, () => {
  let node: string;
  beforeAll(async () => {
    node = await started('node');
  }, 300_000);

  const expectTrained = async (program: string, ...flags: string[]): Promise<void> => {
    await rm(join(node, 'my-adapter'), { recursive: true, force: true });
    expect(await said(node, program, ...flags, 'train.js')).toMatch(/my-adapter is ready/);
    expect(await said(node, program, ...flags, 'predict.js', QUESTION)).toMatch(/^broken +[01]\.\d\d The screen/);
  };

  it('for Node trains, predicts and serves', async () => {
    await expectTrained(process.execPath);
    const address = await served(node, process.execPath, 'serve.js');
    const answer = await fetch(address, { method: 'POST', body: QUESTION });
    expect(await answer.json()).toMatchObject([{ label: 'broken' }]);
    const empty = await fetch(address, { method: 'POST' });
    expect([empty.status, await empty.json()]).toEqual([400, { error: expect.stringMatching(/empty/) as string }]);
  });

  it.skipIf(platform !== 'linux' || arch !== 'x64').each([
    ['Bun', '@oven/bun-linux-x64@1.4.5', 'bin/bun', []],
    ['Deno', '@deno/linux-x64-glibc@2.9.6', 'deno', ['run', '--allow-all']],
  ])('for %s trains and predicts, if this is Linux on x64', async (_, spec, program, flags) => {
    const runtime = spec.slice(0, spec.lastIndexOf('@'));
    await npmInstall(work, [spec, '--no-save']);
    await expectTrained(join(work, 'node_modules', runtime, program), ...flags);
  });

  it.skipIf(withoutChromium)(`for Vite trains in a page, which keeps the adapter, ${inChromium}`, async () => {
    const vite = await started('vite');
    await trainsOnly(4, vite); // enough for the right answer
    await said(vite, 'npm', 'run', 'build');
    const { headers } = await fetch(await served(vite, 'node_modules/.bin/vite', 'preview', '--port', '0'));
    expect(headers.get('Cross-Origin-Opener-Policy')).toBe('same-origin');
    expect(headers.get('Cross-Origin-Embedder-Policy')).toBe('require-corp');
    // Without these headers it computes with one thread: several are slow where all cores have other work.
    const server = await serve(join(vite, 'dist'));
    onTestFinished(() => server.close());
    const { page, complaints } = await opened(originOf(server));
    await page.click('#train');
    await page.click('#stop');
    await shows(page, '#state', 'stopped');
    await page.click('#train');
    await shows(page, '#state', 'trained');
    await page.reload();
    await page.press('#text', 'Enter');
    await shows(page, '#answer', 'broken');
    expect(await page.textContent('#answer')).toMatch(/^broken /);
    expect(complaints.filter((line) => !line.includes('one thread'))).toEqual([]);
  });

  it.skipIf(withoutChromium)(`for Next.js predicts on the server and trains in the page, ${inChromium}`, async () => {
    const next = await started('next');
    await said(next, process.execPath, 'train.js');
    await trainsOnly(1, next); // the answer is that of train.js
    await said(next, 'npm', 'run', 'build');
    const { page, complaints } = await opened(await served(next, 'node_modules/.bin/next', 'start', '--port', '0'));
    await page.click('text=Classify');
    await shows(page, '#answer', 'broken');
    await page.click('text="Train"');
    await shows(page, '#state', 'trained');
    expect(complaints).toEqual([]);
  });
});
