import { readFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { diskStorage } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromOnnx } from '@peftjs/onnx';
import { pipeline, type LabelScore } from '@peftjs/pipelines';
import { decodeImage } from '@peftjs/tasks/images';
import { expect, it, onTestFinished } from 'vitest';
import { folderOfTest } from '../../tools/vitest/temporary-folder.js';
import { inChromium, openBrowser, visit, withoutChromium } from '../docs/browser.js';
import { bundled } from '../docs/bundled.js';
import { originOf, serve } from '../docs/serve.js';
import { visionFolder } from '../models/vision.js';
import { expected, fixture } from './tiny.js';

/** The start of a page that reads models from its own server. */
const START = `
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
`;

const TEXTS = `${START}
const classify = await pipeline('text-classification', 'model', { methods: [], executor, storage });
globalThis.classify = (texts) => classify(texts, { topK: null });
document.title = 'ready';
`;

const IMAGES = `${START}
import { onnxFormats } from '@peftjs/onnx/formats';
import { decodeImage } from '@peftjs/tasks/images';

const classify = await pipeline('image-classification', 'vit', {
  methods: [], executor, storage, formats: onnxFormats(),
});
globalThis.classify = (path) => classify('/' + path, { topK: null });
globalThis.pixels = async (path) => {
  const { width, height, data } = await decodeImage(await storage.read(path), path);
  return { width, height, data: Array.from(data) };
};
document.title = 'ready';
`;

/** Opens a page with this program, on a server that also has the files that `add` writes. */
async function opened(program: string, add: (site: string) => Promise<unknown>) {
  const site = await bundled(folderOfTest(), { 'page.js': program });
  await add(site);
  const server = await serve(site);
  onTestFinished(() => server.close());
  const browser = await openBrowser();
  onTestFinished(() => browser.close());
  const visited = await visit(browser, originOf(server));
  await visited.page
    .waitForFunction("document.title === 'ready'", undefined, { timeout: 60_000 })
    .catch((cause: unknown) => {
      throw new Error(visited.complaints.join('\n') || String(cause));
    });
  return visited;
}

it.skipIf(withoutChromium)(`a page classifies like transformers, ${inChromium}`, async () => {
  const { page, foreign } = await opened(TEXTS, (site) =>
    cp(fixture('classifier'), join(site, 'model'), { recursive: true }),
  );
  const found = await page.evaluate<LabelScore[][]>(`classify(${JSON.stringify(expected.texts)})`);
  expect(found).toEqual(
    expected.classified.several.map((list) =>
      list.map(({ label, score }) => ({ label, score: expect.closeTo(score, 5) as number })),
    ),
  );
  expect(foreign.filter((url) => url.startsWith('http'))).toEqual([]); // nothing from elsewhere
});

it.skipIf(withoutChromium)(`a page reads and classifies images like Node, ${inChromium}`, async () => {
  const folder = fileURLToPath(new URL('../tasks/fixtures/images', import.meta.url));
  let vit = '';
  const { page } = await opened(IMAGES, async (site) => {
    vit = join(site, 'vit');
    for (const [file, bytes] of visionFolder(vit)) await diskStorage().write(file, bytes);
    await cp(folder, site, { recursive: true });
  });
  for (const name of ['rgb.png', 'tall.png', 'grey.png', 'alpha.png', 'palette.png', 'photo.jpg', 'cmyk.jpg']) {
    const { data, ...size } = await decodeImage(readFileSync(join(folder, name)), name);
    const theirs = await page.evaluate<{ width: number; height: number; data: number[] }>(`pixels('${name}')`);
    expect({ width: theirs.width, height: theirs.height }, name).toEqual(size);
    const farthest = theirs.data.reduce((most, byte, at) => Math.max(most, Math.abs(byte - (data[at] as number))), 0);
    expect(farthest, name).toBeLessThanOrEqual(name.endsWith('jpg') ? 2 : 0); // decoders of JPEG round differently
  }
  const executor = compiled({ threads: 1 });
  const classify = await pipeline('image-classification', await fromOnnx(vit), { methods: [], executor });
  onTestFinished(() => classify.dispose());
  const ours = await classify(join(folder, 'rgb.png'), { topK: null });
  const theirs = await page.evaluate<LabelScore[]>(`classify('rgb.png')`);
  expect(theirs).toEqual(ours.map(({ label, score }) => ({ label, score: expect.closeTo(score, 5) as number })));
});
