import { InvalidArgumentError, Option } from 'commander';
import { didYouMean } from '@peftjs/core';

/** An option with one of a few values; another is refused with the nearest of them. */
export function choice(flags: string, about: string, names: readonly string[]): Option {
  return new Option(flags, about).choices(names).argParser((value: string) => {
    if (names.includes(value)) return value;
    throw new InvalidArgumentError(`Allowed choices are ${names.join(', ')}${didYouMean(value, names)}.`);
  });
}
