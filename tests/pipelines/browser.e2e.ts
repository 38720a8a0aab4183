import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import type { LabelScore } from '@peftjs/pipelines';
import { expect, it, onTestFinished } from 'vitest';
import { inChromium, openBrowser, visit, withoutChromium } from '../docs/browser.js';
import { bundled } from '../docs/bundled.js';
import { originOf, serve } from '../docs/serve.js';
import { expected, fixture } from './tiny.js';

/** A page that loads a model through its own storage and classifies. */
const PAGE = `
import { compiled } from '@peftjs/engine';
import { pipeline } from '@peftjs/pipelines';
import * as runtime from 'onnxruntime-web/wasm';

runtime.env.wasm.wasmPaths = '/runtime/';
const storage = {
  async read(path) {
    const response = await fetch('/' + path);
    if (!response.ok) throw new Error(path);
    return new Uint8Array(await response.arrayBuffer());
  },
  exists: async (path) => (await fetch('/' + path)).ok,
};
const executor = compiled({ runtime });
const classify = await pipeline('text-classification', 'model', { methods: [], executor, storage });
globalThis.classify = (texts) => classify(texts, { topK: null });
document.title = 'ready';
`;

it.skipIf(withoutChromium)(`a page classifies like transformers, ${inChromium}`, async () => {
  const { site, remove } = await bundled({ 'page.js': PAGE });
  onTestFinished(remove);
  await cp(fixture('classifier'), join(site, 'model'), { recursive: true });
  const server = await serve(site);
  onTestFinished(() => server.close());
  const browser = await openBrowser();
  onTestFinished(() => browser.close());
  const { page, complaints, foreign } = await visit(browser, originOf(server));
  await page.waitForFunction("document.title === 'ready'", undefined, { timeout: 60_000 }).catch((cause: unknown) => {
    throw new Error(complaints.join('\n') || String(cause));
  });
  const found = await page.evaluate<LabelScore[][]>(`classify(${JSON.stringify(expected.texts)})`);
  expect(found).toEqual(
    expected.classified.several.map((list) =>
      list.map(({ label, score }) => ({ label, score: expect.closeTo(score, 5) as number })),
    ),
  );
  expect(foreign.filter((url) => url.startsWith('http'))).toEqual([]); // nothing from elsewhere
});
