import { expect, it } from 'vitest';
import type { PretrainedModel } from '@peftjs/models';
import type { LoadedTask } from '../registry/tasks.js';
import { dataFingerprint } from './as-planned.js';

const rows = { kind: 'classification', train: { fingerprint: 'a' }, dev: { fingerprint: 'b' } };
const of = (task: object, model: object, dropout?: 'config') =>
  dataFingerprint({ ...rows, ...task } as LoadedTask, model as PretrainedModel, dropout ? { dropout } : {});

it('another way to make pixels of images is another trial', () => {
  const [one, other] = [{ preprocessor: { image_mean: [0.5] } }, { preprocessor: { image_mean: [0.4] } }];
  expect(of({ imagesIn: 'photos' }, one)).not.toBe(of({ imagesIn: 'photos' }, other));
  expect(of({}, one)).toBe('a b');
});

it("other rates of the network's own dropout are another trial, if it is trained with", () => {
  const [one, other] = [{ dropouts: { hidden: 0.1 } }, { dropouts: { hidden: 0 } }];
  expect(of({}, one, 'config')).not.toBe(of({}, other, 'config'));
  expect(of({}, one)).toBe(of({}, other));
});

it('another chat template for tools is another trial, if rows have tools', () => {
  const model = (toolSource: string) => ({ tokenizer: { chatTemplate: { source: 'chat', toolSource } } });
  const chats = (row: object) => ({ kind: 'causal-lm', train: { fingerprint: 'a', rows: [{ messages: [], ...row }] }, dev: { fingerprint: 'b', rows: [] } }); // oxfmt-ignore
  expect(of(chats({ tools: [] }), model('one'))).not.toBe(of(chats({ tools: [] }), model('other')));
  expect(of(chats({}), model('one'))).toBe(of(chats({}), { tokenizer: { chatTemplate: { source: 'chat' } } }));
});
