import { readFileSync } from 'node:fs';
import { attach, loadPretrained, memoryStorage, onWarning, savePretrained, train, type Model } from '@peftjs/core';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from '@peftjs/core/model';
import type { OnnxOptions } from '@peftjs/onnx';
import { floats } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { drawnAdapters, savedAs } from '../peft/adapters.js';
import * as peftBert from '../peft/bert.js';
import { expectGradientsOfPeft } from './gradients.js';
import { exported, exporters, loadGraph } from './onnx.js';
import { batchOf, golden, load, outputsOfAll, tiny, tokenRows } from './tiny.js';

const TOLERANCE = 1e-5;
const GRADIENT_TOLERANCE = 1e-4;
const BATCHES = [0, 1, 2];

const executor = compiled({ threads: 1 });
const cases = exported.flatMap((network) => exporters.map((exporter) => [network, exporter] as const));

/** A function that is compiled again for other sizes says so in a warning. */
const warnings: string[] = [];
let stop: () => void;
beforeEach(() => {
  warnings.length = 0;
  stop = onWarning((message) => warnings.push(message));
});
afterEach(() => {
  stop();
});

describe.each(cases.filter(([network]) => network !== 'bert'))(
  '%s, exported by the %s exporter',
  (network, exporter) => {
    const from = tiny(network as Exclude<typeof network, 'bert'>);
    const head = network === 'llama' || network === 'gpt2' ? 'next' : 'classes';

    it('has the logits of transformers at three sizes, from one graph', async () => {
      const model = await loadGraph(network, exporter);
      const batches = BATCHES.map((number) => batchOf(from, number));
      const outputs = await outputsOfAll(model, batches, executor);
      for (const [number, batch] of batches.entries()) {
        const expected = golden(from, `${head}/${number}/logits`);
        if (!expected) continue; // of a decoder, only one batch has the logits of all words
        const rows = (values: Float32Array) => (expected.shape.length === 3 ? tokenRows(values, batch) : [...values]);
        const distance = relativeDistance(rows(outputs[number] ?? expect.fail('none')), rows(floats(expected)));
        expect(distance, `batch ${number}`).toBeLessThan(TOLERANCE);
      }
      expect(warnings).toEqual([]);
    });

    it("has the loss and the gradients of PEFT's LoRA, from one graph", async () => {
      const targetModules = (await load(from, head)).defaultTargetModules;
      const peft = attach(await loadGraph(network, exporter), lora({ r: 2, loraAlpha: 4, targetModules }));
      await expectGradientsOfPeft(peft, from, head, {
        executor,
        tolerance: GRADIENT_TOLERANCE,
        lossTolerance: TOLERANCE,
      });
      expect(warnings).toEqual([]);
    });

    it('has the modules of the checkpoint, by role and layer', async () => {
      const [graph, checkpoint] = [await loadGraph(network, exporter), await load(from, head)];
      const known = new Map(checkpoint.sites.map((site) => [site.path, site]));
      const shared = graph.sites.filter(({ path }) => known.has(path));
      expect(shared.map(({ path }) => path).sort()).toEqual([...known.keys()].sort());
      for (const site of shared) {
        const { role, layer, inFeatures, outFeatures, kind } = known.get(site.path) ?? expect.fail(site.path);
        expect(site).toMatchObject({ role, kind, inFeatures, outFeatures, ...(layer !== undefined && { layer }) });
      }
    });
  },
);

/** Written by tools/golden/from_peft.py. */
const fromPeft = (peftBert.readJson('from-peft/expected.json') as { logits: Record<string, number[][]> }).logits;

describe.each(exporters)('bert, exported by the %s exporter', (exporter) => {
  it.each(Object.entries(fromPeft))('has the logits of PEFT with its adapter: %s', async (name, logits) => {
    const model = { ...(await loadGraph('bert', exporter)), name: peftBert.model.name };
    const peft = await loadPretrained(model, `${peftBert.fixtures}/from-peft/${name}`, { methods: peftBert.methods });
    expect(relativeDistance(await peftBert.logitsOf(peft), logits.flat())).toBeLessThan(peftBert.TOLERANCE);
    expect(warnings).toEqual([]);
  });

  it('gives its adapters the bytes that they have on the checkpoint, with which PEFT opens them', async () => {
    const model = { ...(await loadGraph('bert', exporter)), name: peftBert.model.name };
    for (const [name, peft] of drawnAdapters(model)) {
      const storage = memoryStorage();
      await savePretrained(peft, name, { storage, ...savedAs(name) });
      for (const file of [ADAPTER_WEIGHTS, ADAPTER_CONFIG]) {
        const ours = await storage.read(`${name}/${file}`);
        const opened = readFileSync(`${peftBert.fixtures}/from-peftjs/${name}/${file}`);
        if (file === ADAPTER_WEIGHTS) expect(opened.equals(ours), name).toBe(true);
        else expect(settingsIn(ours), name).toEqual(settingsIn(opened));
      }
    }
  });
});

function settingsIn(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(bytes));
}

describe('what applies to a checkpoint applies to its graph', () => {
  const from = tiny('distilbert');
  const batch = batchOf(from, 1);
  const both = (options: Pick<OnnxOptions, 'dtype'> = {}): Promise<readonly Model[]> =>
    Promise.all([loadGraph('distilbert', 'traced', options), load(from, 'classes', options)]);

  it.each(['q8', 'q4'] as const)('weights in few bits: %s', async (dtype) => {
    const [ours, theirs] = await Promise.all(
      (await both({ dtype })).map((model) => outputsOfAll(model, [batch], executor)),
    );
    expect(relativeDistance(ours?.[0] ?? [], theirs?.[0] ?? [])).toBeLessThan(TOLERANCE);
  });

  it('gradient checkpointing, with the same losses to the bit', async () => {
    const [model] = await both();
    const losses = await Promise.all(
      [false, true].map(async (gradientCheckpointing) => {
        const own: number[] = [];
        const data = { kind: 'classification', batchesPerEpoch: 2, epoch: () => [batch, batch] } as const;
        const onStep = ({ loss }: { loss: number }): void => void own.push(loss);
        const peft = attach(model as Model, lora({ r: 2 }), { seed: 1 });
        await train(peft, data, { executor, epochs: 1, learningRate: 1e-2, gradientCheckpointing, onStep });
        return own;
      }),
    );
    expect(losses[1]).toEqual(losses[0]);
    expect(losses[0]).toHaveLength(2);
  });
});
