import { describe, expect, it } from 'vitest';
import { compiledCase } from './cases.js';
import { measured, OVER_LIMIT, withModels } from './own-process.js';

describe('a case in its own process', () => {
  const minilm = { ...compiledCase('minilm-short', 'q8', { threads: 1 }), steps: 1 };

  it('is measured, and ended at its limit of memory', async () => {
    await withModels(async (models) => {
      const { name, graphNodes, peakRssBytes, loadPeakBytes, stepPeakBytes } = await measured(minilm, models);
      expect(name).toBe('minilm-short-lora-q8');
      expect(graphNodes).toBeGreaterThan(1000);
      expect(peakRssBytes).toBeGreaterThanOrEqual(loadPeakBytes);
      expect(peakRssBytes).toBeGreaterThan(stepPeakBytes);
      await expect(measured(minilm, models, { limitBytes: 2e8 })).rejects.toMatchObject({ code: OVER_LIMIT });
    });
  });
});
