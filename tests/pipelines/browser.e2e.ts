import { cp, mkdir, mkdtemp, readdir, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LabelScore } from '@peftjs/pipelines';
import { build } from 'vite';
import { expect, it, onTestFinished } from 'vitest';
import { inChromium, openBrowser, visit, withoutChromium } from '../docs/browser.js';
import { originOf, serve } from '../docs/serve.js';
import { root } from '../workspace/repository.js';
import { expected, fixture } from './tiny.js';

/** A page that loads a model through its own storage and classifies. */
const PAGE = `
import { compiled } from '@peftjs/engine';
import { pipeline } from '@peftjs/pipelines';
import * as runtime from 'onnxruntime-web/wasm';

Object.assign(runtime.env.wasm, { wasmPaths: '/runtime/', numThreads: 1 });
const storage = {
  async read(path) {
    const response = await fetch('/' + path);
    if (!response.ok) throw new Error(path);
    return new Uint8Array(await response.arrayBuffer());
  },
  exists: async (path) => (await fetch('/' + path)).ok,
};
const executor = compiled({ runtime, threads: 1 });
const classify = await pipeline('text-classification', 'model', { methods: [], executor, storage });
globalThis.classify = (texts) => classify(texts, { topK: null });
document.title = 'ready';
`;

/** Builds the page with Vite. */
async function site(): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'peftjs-page-')));
  onTestFinished(() => rm(folder, { recursive: true }));
  const built = join(folder, 'site');
  await writeFile(join(folder, 'index.html'), '<script type="module" src="/page.js"></script>');
  await writeFile(join(folder, 'page.js'), PAGE);
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  await build({
    root: folder,
    configFile: false,
    logLevel: 'silent',
    resolve: { conditions: ['@peftjs/source', 'onnxruntime-web-use-extern-wasm', 'browser', 'module', 'import'] },
    build: { target: 'es2022', outDir: built },
  });
  await mkdir(join(built, 'runtime'));
  const runtime = join(root, 'node_modules/onnxruntime-web/dist');
  for (const file of await readdir(runtime)) {
    if (/^ort-wasm-simd-threaded\.(?:wasm|mjs)$/.test(file))
      await cp(join(runtime, file), join(built, 'runtime', file));
  }
  await cp(fixture('classifier'), join(built, 'model'), { recursive: true });
  return built;
}

it.skipIf(withoutChromium)(`a page classifies like transformers, ${inChromium}`, async () => {
  const server = await serve(await site());
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
