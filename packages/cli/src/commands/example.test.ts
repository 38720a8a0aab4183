import { expect, it } from 'vitest';
import type { LoadedTask } from '../registry/tasks.js';
import { exampleArguments } from './example.js';

const task = (kind: string, rows: readonly object[], imagesIn?: string): LoadedTask =>
  ({ kind, dev: { rows }, ...(imagesIn !== undefined && { imagesIn }) }) as unknown as LoadedTask;
const said = (content: string): object => ({ role: 'user', content });

it.each<[string, LoadedTask, string]>([
  ['a text', task('classification', [{ text: 'So good.' }]), '"So good."'],
  ['a pair', task('classification', [{ text: 'a', pair: 'b' }]), '--pairs "a" "b"'],
  ['words', task('token-classification', [{ words: ['the', 'cat'] }]), '"the cat"'],
  ['an anchor', task('pairs', [{ texts: ['what?', 'that'] }]), '"what?"'],
  ['an image', task('classification', [{ text: 'dark/0 1.png' }], 'photos'), '"photos/dark/0 1.png"'],
  ['the beginning of a text', task('causal-lm', [{ text: ' one two\nthree four' }]), '"one two three"'],
  ['a prompt', task('causal-lm', [{ prompt: '1 + 1 =', completion: ' 2' }]), '"1 + 1 ="'],
  ['a message', task('causal-lm', [{ messages: [{ role: 'system' }, said('who?')] }]), '"who?"'],
  ['a message of preferences', task('preferences', [{ prompt: [said('who?')] }]), '"who?"'],
  [
    'the first text that every shell takes',
    task(
      'classification',
      ['-a', 'a "b"', '$a', 'a`b`', 'a!', 'a\nb', 'a\\', '%a%', '', 'it’s a'].map((text) => ({ text })),
    ),
    '"it’s a"',
  ],
  [
    'no text that a shell would change',
    task('regression', [{ text: '$HOME', pair: '!' }]),
    '--pairs "some text" "another text"',
  ],
])('predict is shown with %s', (_, given, expected) => {
  expect(exampleArguments(given)).toBe(expected);
});
