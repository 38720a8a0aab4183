import { describe, expect, it } from 'vitest';
import { spread, uncrossedPositions } from './draw.js';

describe('spread', () => {
  it('keeps positions that are far enough apart, and separates the others within the bounds', () => {
    expect(spread([1, 5, 9], { gap: 1, low: 0, high: 10 })).toEqual([1, 5, 9]);
    const places = spread([9.8, 9.9, 10, 0], { gap: 2, low: 0, high: 10 });
    expect(places).toEqual([6, 8, 10, 0]);
  });
});

describe('uncrossedPositions', () => {
  const anchors = [
    { x: 10, y: 0 },
    { x: 90, y: 20 },
    { x: 50, y: 22 },
    { x: 20, y: 24 },
    { x: 95, y: 60 },
  ];
  const places = [0, 15, 30, 45, 60];

  it('gives every anchor its own position, and no two lines cross', () => {
    const assigned = uncrossedPositions(anchors, places, 100);
    expect([...assigned].sort()).toEqual([0, 1, 2, 3, 4]);
    const heightAt = (anchor: number, x: number): number => {
      const { x: from, y } = anchors[anchor] as { x: number; y: number };
      return y + (((places[assigned[anchor] as number] as number) - y) * (x - from)) / (100 - from);
    };
    for (let a = 0; a < anchors.length; a++) {
      for (let b = 0; b < a; b++) {
        const start = Math.max(anchors[a]?.x ?? 0, anchors[b]?.x ?? 0);
        const [before, after] = [start, 100].map((x) => heightAt(a, x) - heightAt(b, x)) as [number, number];
        expect(Math.sign(before), `${a} and ${b}`).toBe(Math.sign(after));
      }
    }
  });

  it('keeps lines that do not cross', () => {
    expect(
      uncrossedPositions(
        [
          { x: 0, y: 0 },
          { x: 0, y: 9 },
        ],
        [1, 8],
        100,
      ),
    ).toEqual([0, 1]);
  });
});
