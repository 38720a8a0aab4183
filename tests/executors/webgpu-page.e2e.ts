import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { folderOfTest } from '../../tools/vitest/temporary-folder.js';
import { inChromium, openBrowser, softwareGpu, visit, withoutChromium } from '../docs/browser.js';
import { bundled } from '../docs/bundled.js';
import { originOf, serve } from '../docs/serve.js';
import { root } from '../workspace/repository.js';

const PAGE = `
import { attach, predict } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import * as runtime from 'onnxruntime-web/webgpu';
import { toyEvaluationData, toyModel } from '${join(root, 'packages/conformance/src/toy-model.ts')}';

runtime.env.wasm.wasmPaths = '/runtime/';
globalThis.predictAtOnce = async () => {
  const on = (executionProviders) => compiled({ runtime, threads: 1, executionProviders });
  const { batches } = toyEvaluationData(2, 1);
  const peft = attach(toyModel(), lora({ r: 2, initLoraWeights: false }), { seed: 1 });
  const outputs = async (executor) => (await predict(peft, batches, { executor })).flatMap((row) => [...row]);
  const executors = [on(['webgpu']), on(['webgpu']), on(['wasm'])];
  let expected; // of WebAssembly, the last one
  for (const executor of executors) expected = await outputs(executor);
  const all = await Promise.all(executors.map(outputs));
  return all.map((values) => Math.max(...values.map((value, at) => Math.abs(value - expected[at]))));
};
document.title = 'ready';
`;

it.skipIf(withoutChromium)(
  `predictions at once on WebGPU give what WebAssembly gives, ${inChromium}`,
  async () => {
    const server = await serve(await bundled(folderOfTest(), { 'page.js': PAGE }));
    const browser = await openBrowser(softwareGpu);
    onTestFinished(async () => {
      await browser.close();
      await server.close();
    });
    const visited = await visit(browser, originOf(server));
    await visited.page.waitForFunction("document.title === 'ready'");
    const distances = await visited.page.evaluate<number[]>('predictAtOnce()');
    expect(distances).toHaveLength(3);
    expect(Math.max(...distances)).toBeLessThan(1e-4);
  },
  120_000,
);
