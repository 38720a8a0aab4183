import { expect, it } from 'vitest';
import { contextOf, smallStudy } from '../../test/studies.js';
import type { LoadedTask } from '../registry/tasks.js';
import type { ArmSettings } from '../study/study.js';
import { trialOf } from '../study/trials.js';
import { describeCircumstances } from './trial.js';

const study = smallStudy();
const settings = study.methods['lora'] as ArmSettings;
const trial = trialOf(contextOf(study), { arm: 'lora', settings, task: 'mine', budget: 'r=1', seed: 1 });

it.each([
  [undefined, '138 rows set aside from the training file, among 3 checkpoints of the last 34 % of the steps'],
  ['train', '138 rows set aside from the training file, among'],
  ['dev', '138 rows of the development file, which are not reported, among'],
])('results say which rows select, those of a split that takes them from %s', (selectionFrom, words) => {
  const task = { source: 'made up', licence: 'none', ...(selectionFrom && { selectionFrom }) } as LoadedTask;
  const at = { startedAt: new Date(0), finishedAt: new Date(0) };
  const { protocol } = describeCircumstances(trial, { task, rows: { train: 2490, selection: 138, dev: 139 } }, at);
  expect(protocol.selectedOn).toContain(words);
});
