import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import type { PreviewServer } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isolation } from '../../docs/.vitepress/isolation.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { inChromium, openBrowser, visit, withoutChromium } from '../docs/browser.js';
import { bundled } from '../docs/bundled.js';
import { originOf, serve } from '../docs/serve.js';
import { root } from '../workspace/repository.js';

/** Steps that take seconds, so that a click comes before their end. */
const STEPS = 4000;

/** Bundled with ONNX Runtime and listening with `onmessage`, it hangs if it is started as a thread of ONNX Runtime. */
const WORKER = `
import { attach, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import * as runtime from 'onnxruntime-web/wasm';
import { toyModel, toyTrainingData } from '${join(root, 'packages/conformance/src/toy-model.ts')}';

const stopper = new AbortController();

async function learn({ clicked, flags, options, steps }) {
  Object.assign(runtime.env.wasm, flags);
  const executor = compiled({ runtime, ...options });
  const data = { ...toyTrainingData(), batchesPerEpoch: 1 };
  const losses = [];
  let seen; // the first step at whose end the button was known to be pressed
  const onStep = ({ step, loss }) => {
    losses.push(loss);
    if (Atomics.load(clicked, 0) === 1 && seen === undefined) {
      seen = step;
      Atomics.wait(clicked, 0, 1, 1000); // for the message of the click, however busy the machine is
    }
    self.postMessage({ step });
  };
  const run = train(attach(toyModel(), lora({ r: 2 }), { seed: 1 }), data, {
    executor, epochs: steps, learningRate: 1e-2, signal: stopper.signal, onStep,
  });
  const ended = await run.then(() => 'finished', (error) => error.name);
  const [{ threads }, set, cores] = [executor.info, runtime.env.wasm.numThreads, navigator.hardwareConcurrency];
  return { ended, seen, losses, last: losses.length, threads, set, cores };
}

self.onmessage = async ({ data }) => {
  if (data === 'stop') stopper.abort();
  else self.postMessage({ result: await learn(data) });
};
`;

const PAGE = `
const clicked = new Int32Array(crossOriginIsolated ? new SharedArrayBuffer(4) : 4);
const button = document.body.appendChild(document.createElement('button'));
button.textContent = 'Stop';
globalThis.step = 0;

globalThis.learn = (given) => new Promise((resolve, reject) => {
  const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  worker.onmessage = ({ data }) => {
    globalThis.step = data.step;
    if (data.result) resolve(data.result);
  };
  worker.onerror = reject;
  button.onclick = () => {
    Atomics.store(clicked, 0, 1);
    worker.postMessage('stop');
  };
  worker.postMessage({ clicked, ...given });
});
document.title = 'ready';
`;

/** What the worker answers. */
interface Learned {
  readonly ended: string;
  readonly seen?: number;
  readonly losses: readonly number[];
  readonly last: number;
  /** The threads that the executor reports. */
  readonly threads: number;
  /** The threads of the runtime. */
  readonly set: number;
  /** The cores of the machine. */
  readonly cores: number;
}

interface Asked {
  readonly options?: { readonly threads: number };
  readonly flags?: { readonly numThreads?: number; readonly wasmPaths?: string };
}

const files = { wasmPaths: '/runtime/' };

describe.skipIf(withoutChromium)(`a bundled worker, ${inChromium}`, () => {
  const folder = temporaryFolder();
  let browser: Browser;
  let isolated: PreviewServer;
  let open: PreviewServer;

  beforeAll(async () => {
    const site = await bundled(folder, { 'page.js': PAGE, 'worker.js': WORKER });
    [isolated, open] = [await serve(site, isolation), await serve(site)];
    browser = await openBrowser();
  }, 120_000);
  afterAll(async () => {
    await browser.close();
    for (const server of [isolated, open]) await server.close();
  });

  const opened = async (server: PreviewServer) => {
    const visited = await visit(browser, originOf(server));
    await visited.page.waitForFunction("document.title === 'ready'");
    const learn = (given: Asked, steps: number) =>
      visited.page.evaluate<Learned>(`learn(${JSON.stringify({ ...given, steps })})`);
    return { ...visited, learn };
  };

  /** Trains a few steps on a page of its own. */
  async function learned(server: PreviewServer, given: Asked) {
    const { page: tab, complaints, learn } = await opened(server);
    const result = await learn(given, 3);
    const workers = tab.workers().map((worker) => new URL(worker.url()).pathname);
    await tab.context().close();
    return { ...result, complaints, threadWorkers: workers.filter((path) => path.startsWith('/runtime/')).length };
  }

  it('stops training within one step of the press of a button', async () => {
    const { page: tab, learn } = await opened(isolated);
    const running = learn({ flags: files }, STEPS);
    await tab.waitForFunction('step > 2');
    await tab.click('button');
    const { ended, seen, last } = await running;
    expect(ended).toBe('AbortError');
    expect(last - (seen ?? last)).toBeLessThanOrEqual(1); // it may stop before another step sees the click
    expect(last).toBeLessThan(STEPS);
    await tab.context().close();
  });

  it('computes with the threads that it asks for, and with all cores by default', async () => {
    const one = await learned(isolated, { flags: files, options: { threads: 1 } });
    const two = await learned(isolated, { flags: files, options: { threads: 2 } });
    expect(one).toMatchObject({ ended: 'finished', threads: 1, set: 1, threadWorkers: 0, complaints: [] });
    expect(two).toMatchObject({ ended: 'finished', threads: 2, set: 2, threadWorkers: 1, complaints: [] });
    two.losses.forEach((loss, step) => expect(loss).toBeCloseTo(one.losses[step] ?? NaN, 5));
    const usual = await learned(isolated, { flags: files });
    expect(usual).toMatchObject({ threads: usual.cores, set: usual.cores, threadWorkers: usual.cores - 1 });
  });

  it.each<[string, Asked]>([
    ['asked for in the runtime', { flags: { numThreads: 2 } }],
    ['asked for in the executor', { options: { threads: 2 } }],
  ])('says what threads need, %s without its files, and computes with one', async (_, given) => {
    const { complaints, ...result } = await learned(isolated, given);
    expect(result).toMatchObject({ ended: 'finished', threads: 1, set: 1, threadWorkers: 0 });
    expect(complaints).toEqual([
      expect.stringMatching(/^compiled: one thread instead of 2: set the runtime's env\.wasm\.wasmPaths to .*$/),
    ]);
  });

  it('says which headers threads need on a page that is not isolated, and computes with one', async () => {
    const { complaints, ...result } = await learned(open, { flags: files, options: { threads: 2 } });
    expect(result).toMatchObject({ ended: 'finished', threads: 1, set: 1, threadWorkers: 0 });
    expect(complaints).toEqual([
      expect.stringMatching(/^compiled: one thread instead of 2: serve the page with the headers "Cross-Origin-O.*$/),
    ]);
    expect((await learned(open, { flags: files })).complaints).toEqual([]);
  });
});
