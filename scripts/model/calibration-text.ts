/** Two texts of several kinds, written for this purpose: prose, a list, a program, numbers, a letter, other languages. */

export const CALIBRATION_TEXT = `The harbour was quiet when the last boat came in. Marta tied it to the post, counted the
crates, and wrote the number into her book: forty-one of herring, six of mackerel, and one in which nobody had looked.

Question: how many days does a leap year have? Answer: three hundred and sixty-six, because February has one more.

- Boil 500 g of potatoes for 20 minutes.
- Fry two onions in 3 spoons of oil.
- Mix both with salt, pepper and a little vinegar.

function area(width: number, height: number): number {
  if (width < 0 || height < 0) throw new RangeError('expected sizes that are not negative')
  return width * height
}

Dear Mr Okafor, thank you for your letter of 14 March. The parts you ordered left our store on Tuesday and should be with you
within a week. If anything is missing, please call us between nine and five.

Le train pour Lyon part à dix heures douze du quai numéro quatre. Der Zug nach Hamburg hat heute zehn Minuten Verspätung. El
museo abre todos los días menos los lunes.

{"name": "sensor-7", "values": [20.5, 20.7, 19.9], "unit": "C", "ok": true}

12 + 30 = 42; 7 * 8 = 56; 144 / 12 = 12; the square root of 81 is 9, and pi is about 3.14159.
`

export const CHECK_TEXT = `Nobody had told the gardener that the wall would be taken down. He found the stones in a heap beside the
gate, and the roses leaning against nothing. So he took string and four posts from the shed, and by noon they stood again.

Question: which of these is heavier, a litre of water or a litre of oil? Answer: the water, which is why oil floats on it.

def mean(values):
    """The arithmetic mean of a list that is not empty."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)

1. Open the cover and take out the old battery.
2. Wait ten seconds, then put in the new one.
3. Close the cover and press the button twice.

Good morning Ana, the meeting has been moved to Thursday at half past two, in the small room on the third floor. Please bring the
figures for May and June, and tell Pavel that he need not come.

Il fait froid ce matin, mais le ciel est clair. Wir treffen uns am Abend vor dem Theater. La biblioteca cierra a las ocho.

SELECT name, count(*) FROM visits WHERE year = 2019 GROUP BY name ORDER BY 2 DESC LIMIT 10;

3 + 9 = 12; 100 - 37 = 63; 6 * 7 = 42; half of 250 is 125, and a dozen is 12.
`
