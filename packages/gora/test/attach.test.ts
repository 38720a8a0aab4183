import {
  activeAdapter,
  activeRanks,
  attach,
  calibrate,
  hostTensor,
  loadPretrained,
  memoryStorage,
  predict,
  savePretrained,
  withAdapter,
  type PeftModel,
} from '@peftjs/core';
import type { HostTensors } from '@peftjs/core/method';
import { ADAPTER_CONFIG, replaceAdapter, storedParameters } from '@peftjs/core/model';
import { scaled } from '@peftjs/core/linalg';
import { referenceExecutor, toyModel, toyTrainingData } from '@peftjs/conformance';
import { gora } from '@peftjs/gora';
import { describe, expect, it } from 'vitest';

const model = toyModel();
const data = toyTrainingData(1, 1);
const executor = await referenceExecutor();
const targetModules = ['query', 'in', 'out'];
const configured = gora({ r: 2, targetModules });

const calibration = await calibrate(model, configured, data, { executor, seed: 3 });
const attached = (): PeftModel => attach(model, configured, { seed: 3, calibration });

/** Returns the mean cross-entropy on the calibration batch. */
async function lossOf(peft: PeftModel): Promise<number> {
  const batches = data.epoch(0);
  const labels = batches.flatMap((batch) => [...batch.labels.data]);
  const logits = await predict(peft, batches, { executor });
  const losses = logits.map((row, index) => {
    const exponentials = [...row].map(Math.exp);
    return -Math.log((exponentials[labels[index] ?? 0] ?? 0) / exponentials.reduce((a, b) => a + b, 0));
  });
  return losses.reduce((a, b) => a + b, 0) / losses.length;
}

it('is not attached without a calibration', () => {
  expect(() => attach(model, configured)).toThrow(expect.objectContaining({ path: 'calibration' }));
});

it('is not attached with the calibration of another model', () => {
  const shorter = { ...calibration.values, 'encoder.layer.0.ffn.out': hostTensor(new Float32Array(2), [2, 1]) };
  expect(() => attach(model, configured, { calibration: { kind: 'gradients', values: shorter } })).toThrow(
    /the calibration has \[2, 1\] for 'encoder.layer.0.ffn.out', expected \[\d+, \d+\]: calibrate this model/,
  );
});

describe('the untrained adapter', () => {
  it('is a step down the loss; the opposite step would increase it', async () => {
    const peft = attached();
    const bare = await lossOf(withAdapter(peft, { layers: {} }));
    expect(await lossOf(peft)).toBeLessThan(bare - 2e-5);
    const { values } = activeAdapter(peft);
    const turned: HostTensors = Object.fromEntries(
      Object.entries(values).map(([key, value]) => [key, key.endsWith('loraB') ? scaled(value, -1) : value]),
    );
    replaceAdapter(peft, { values: turned });
    expect(await lossOf(peft)).toBeGreaterThan(bare + 2e-5);
  });

  it('has a different rank in every module, and stores as much as r everywhere', () => {
    const { layers, values, targets } = activeAdapter(attached());
    const ranks = Object.values(activeRanks(layers, values));
    const budget = targets.matched.reduce((sum, site) => sum + 2 * (site.inFeatures + site.outFeatures), 0);
    expect(new Set(ranks).size).toBeGreaterThan(1);
    expect(storedParameters(layers, values) / budget).toBeGreaterThan(0.98);
    expect(storedParameters(layers, values)).toBeLessThanOrEqual(budget);
  });
});

describe('a file', () => {
  it('gives every module its own rank and alpha, and is loaded without calibration', async () => {
    const storage = memoryStorage();
    const peft = attached();
    await savePretrained(peft, 'a', { storage });
    const { layers, values } = activeAdapter(peft);
    const again = activeAdapter(await loadPretrained(model, 'a', { methods: [gora], storage }));
    expect(again.config).toMatchObject({ initLoraWeights: 'stored', loraAlpha: 16, alphaPattern: {} });
    expect(activeRanks(again.layers, again.values)).toEqual(activeRanks(layers, values));
    const written = JSON.parse(new TextDecoder().decode(await storage.read(`a/${ADAPTER_CONFIG}`))) as {
      r: number;
      lora_alpha: number;
      rank_pattern: Record<string, number>;
      alpha_pattern: Record<string, number>;
    };
    expect(Object.keys(written.rank_pattern).length).toBeGreaterThan(0);
    for (const [path, rank] of Object.entries(activeRanks(layers, values))) {
      // PEFT divides alpha by the rank.
      const r = written.rank_pattern[path] ?? written.r;
      expect([r, (written.alpha_pattern[path] ?? written.lora_alpha) / r]).toEqual([
        rank,
        expect.closeTo(16 / Math.sqrt(rank), 9),
      ]);
    }
  });
});

describe('a budget', () => {
  const { matched } = activeAdapter(attached()).targets;

  it('is kept in the configuration with its average rank, and excludes modules that it cannot pay for', () => {
    const whole = gora.fitBudget?.(matched, 300, configured.config);
    expect([whole?.r, whole?.budget]).toEqual([2, 300]);
    const few = gora.fitBudget?.(matched, 40, configured.config);
    expect([few?.r, few?.budget, few?.targetModules]).toEqual([
      1,
      40,
      ['encoder.layer.1.ffn.in', 'encoder.layer.1.ffn.out'],
    ]);
  });
});
