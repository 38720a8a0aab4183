import { trainingProgress } from '@peftjs/cli/progress';
import { attach, train } from '@peftjs/core';
import { toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { expect, it, onTestFinished, vi } from 'vitest';
import { kept } from './streams.js';

it('shows the progress of a training as the README does', async () => {
  const { stream, text } = kept(true);
  const stderr = vi.spyOn(process, 'stderr', 'get').mockReturnValue(stream as typeof process.stderr);
  onTestFinished(() => stderr.mockRestore());
  const peft = attach(toyModel(), lora({ r: 2 }), { seed: 1 });
  const data = toyTrainingData();
  // #region progress
  await train(peft, data, { executor: compiled(), epochs: 3, ...trainingProgress() });
  // #endregion progress
  expect(text()).toMatch(/training .* 100 % /);
});
