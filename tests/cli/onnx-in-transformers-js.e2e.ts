// An ONNX folder, tuned by the command line, in transformers.js.
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { relativeDistance } from '@peftjs/conformance';
import { fromOnnx, saveOnnxGraph } from '@peftjs/onnx';
import type { BrowserContext } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { inChromium, openBrowser, visit, withoutChromium } from '../docs/browser.js';
import { originOf, serve } from '../docs/serve.js';
import { installed, isMissing, place, TEXTS, transformersJs } from '../export/transformers-js.js';
import { bertFolder } from '../models/bert-tiny.js';
import { fixture } from '../models/onnx.js';
import { root } from '../workspace/repository.js';
import { peftBench } from './in-process.js';
import { served } from './served.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);

/** Runs a command. */
async function output(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await peftBench(args);
  expect({ code, ...(code !== 0 && { stderr }) }).toEqual({ code: 0 });
  return stdout;
}

describe(`in transformers.js itself (${place})`, () => {
  it.skipIf(isMissing).each(['traced', 'dynamo'])(
    'the exported folder of a graph (%s) gives the scores of its adapter',
    async (exporter) => {
      await served(path(exporter), { 'model.onnx': fixture(`bert-${exporter}.onnx`) });
      const task = (await tinyTask(folder, 64)).map((flag) => (flag === bertFolder ? path(exporter) : flag));
      const adapter = path(`${exporter}-adapter`);
      await output('train', '--method', 'lora', ...task, '--epochs', '4', '--out', adapter);
      await output('export', adapter, '--format', 'onnx', '--out', path(`${exporter}-tuned`));
      const lines = (await output('predict', adapter, ...TEXTS, '--top-k', '2', '--json')).trim().split('\n');
      const ours = lines.map((line) => (JSON.parse(line) as { labels: { label: string; score: number }[] }).labels);
      const classify = await transformersJs(folder).pipeline('text-classification', `${exporter}-tuned`);
      const theirs = (await classify(TEXTS, { top_k: 2 })) as unknown as typeof ours;
      expect(theirs.map((labels) => labels.map(({ label }) => label))).toEqual(
        ours.map((labels) => labels.map(({ label }) => label)),
      );
      const scores = (all: typeof ours): number[] => all.flat().map(({ score }) => score);
      expect(relativeDistance(scores(theirs), scores(ours))).toBeLessThan(1e-4);
    },
  );

  it.skipIf(isMissing || withoutChromium)(
    `the page of the guide classifies with an exported folder (${inChromium})`,
    async () => {
      await served(path('page/model'), { 'model.onnx': fixture('bert-traced.onnx') });
      const merged = await fromOnnx(path('page/model'), { labels: ['bad', 'good'] });
      await saveOnnxGraph(merged, path('page/web'));
      await copyFile(join(root, 'examples/served.html'), path('page/index.html'));
      const [server, browser] = await Promise.all([serve(path('page')), openBrowser()]);
      try {
        const { page } = await visit(browser, originOf(server), fromCdn);
        const answer = page.locator('#answer', { hasText: /^(?:bad|good) 0\.\d{3}$/ });
        await answer.waitFor();
        const [text] = (await output('predict', path('page/web'), 'A wonderful film.', '--json')).trim().split('\n');
        const { label, score } = (JSON.parse(text ?? '') as { labels: [{ label: string; score: number }] }).labels[0];
        expect(await answer.textContent()).toBe(`${label} ${score.toFixed(3)}`);
      } finally {
        await Promise.all([browser.close(), server.close()]);
      }
    },
  );
});

/** Answers requests to the network for packages from those that are installed. */
async function fromCdn(context: BrowserContext): Promise<void> {
  await context.route('https://cdn.jsdelivr.net/npm/**', async (route) => {
    const [, name = '', file = ''] =
      /\/npm\/((?:@[^/]+\/)?[^@/]+)(?:@[^/]+)?(\/.*)?$/.exec(new URL(route.request().url()).pathname) ?? [];
    await route.fulfill({
      path: join(installed, 'node_modules', name, file === '' ? 'dist/transformers.min.js' : file),
      headers: { 'access-control-allow-origin': '*' },
    });
  });
}
