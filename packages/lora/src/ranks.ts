import { patternValue } from '@peftjs/core';
import type { LoraConfig } from './config.js';

/** Rank and alpha of a module. */
export interface Rank {
  readonly r: number;
  readonly alpha: number;
}

/** Rank and scaling of a module. */
export interface Scaled {
  readonly r: number;
  readonly scaling: number;
}

/** What a configuration gives the module at `path`. */
export function rankAt({ r, loraAlpha, rankPattern, alphaPattern }: LoraConfig, path: string): Rank {
  return { r: patternValue(rankPattern, path) ?? r, alpha: patternValue(alphaPattern, path) ?? loraAlpha };
}

/** s = alpha / r; as rsLoRA (Kalajdzievski, 2023, arXiv 2312.03732) alpha / sqrt(r). */
export function scalingOf({ useRslora }: LoraConfig, { r, alpha }: Rank): number {
  return alpha / (useRslora ? Math.sqrt(r) : r);
}
