import { trainingProgress } from '@peftjs/cli/progress';
import { attach, train } from '@peftjs/core';
import { toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { expect, it, onTestFinished, vi } from 'vitest';

it('shows the progress of a training as the README does', async () => {
  let shown = '';
  const write = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    shown += String(text);
    return true;
  });
  onTestFinished(() => {
    write.mockRestore();
  });
  const peft = attach(toyModel(), lora({ r: 2 }), { seed: 1 });
  const data = toyTrainingData();
  // #region progress
  await train(peft, data, { executor: compiled(), epochs: 3, ...trainingProgress() });
  // #endregion progress
  expect(shown).toMatch(/training .*step 12 of 12/);
});
